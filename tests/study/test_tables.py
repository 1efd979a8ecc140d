"""The tables of results in documents are those of study/results.csv."""

import dataclasses

import documents
import pytest

from study import tables
from study.results import ResultError, Row, read

_ROW = Row('shift', 'capsnet', 'quick', 'a|b', 1, 1, 429, 1.29, 104.5, '', 'make run')
_BEGIN = '<!-- results of shift: `python -m study.tables` writes this table -->\n'
_END = '<!-- end of results -->\n'


@pytest.mark.parametrize('page', documents.PAGES, ids=documents.name_of)
def test_the_tables_of_a_document_are_up_to_date(page):
    text = page.read_text(encoding='utf-8')
    expected = tables.with_tables(text, read())
    assert text == expected, 'write the tables again: python -m study.tables'


def test_a_document_has_a_table():
    texts = [page.read_text(encoding='utf-8') for page in documents.PAGES]
    assert any('<!-- results of accuracy: ' in text for text in texts)


def test_a_line_has_the_mean_over_seeds_and_its_deviation():
    rows = [
        _ROW,
        dataclasses.replace(_ROW, claim='another', test_error_percent=50.0),
        dataclasses.replace(_ROW, seed=3, test_error_percent=1.18, seconds=None),
        dataclasses.replace(_ROW, seed=2, test_error_percent=1.22, steps=1430, seconds=204.7),
    ]
    assert tables.table('shift', rows) == (
        '| network | recipe | condition | seeds | epochs | steps | test error, % | minutes |\n'
        '| --- | --- | --- | --- | --- | --- | --- | --- |\n'
        '| capsnet | quick | a\\|b | 1, 2, 3 | 1 | 429 to 1,430 | 1.23 ± 0.06 | 2.6 |\n'
    )


def test_other_networks_recipes_and_conditions_have_their_own_lines():
    rows = [
        dataclasses.replace(_ROW, seconds=None, test_error_percent=None, eval_error_percent=1.5),
        dataclasses.replace(_ROW, network='mlp', seconds=6000, eval_loss=0.03),
        dataclasses.replace(_ROW, network='mlp', recipe='long', seconds=None),
        dataclasses.replace(_ROW, network='mlp', seed=2, seconds=6120, test_error_percent=None),
    ]
    lines = tables.table('shift', rows).splitlines()
    assert lines[0].split(' | ')[6:] == [
        'test error, %',
        'evaluation error, %',
        'evaluation loss',
        'minutes |',
    ]
    assert lines[2:] == [
        '| capsnet | quick | a\\|b | 1 | 1 | 429 |  | 1.50 |  |  |',
        '| mlp | quick | a\\|b | 1, 2 | 1 | 429 | 1.29 (1 of 2 seeds) |  | 0.0300 (1 of 2 seeds) '
        '| 101 |',
        '| mlp | long | a\\|b | 1 | 1 | 429 | 1.29 |  |  |  |',
    ]


def test_only_what_is_between_the_lines_of_a_block_is_written():
    other = dataclasses.replace(_ROW, claim='turn', network='mlp')
    text = f'# A\n\n{_BEGIN}old\n{_END}\n| b |\n\n{_BEGIN.replace("shift", "turn")}{_END}'
    new = tables.with_tables(text, [_ROW, other])
    first, second = (tables.table(claim, [_ROW, other]) for claim in ('shift', 'turn'))
    assert new == (
        f'# A\n\n{_BEGIN}\n{first}\n{_END}\n| b |\n\n'
        f'{_BEGIN.replace("shift", "turn")}\n{second}\n{_END}'
    )
    assert tables.with_tables(new, [_ROW, other]) == new


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (f'{_BEGIN}old\n', 'has a wrong first line, or no last line'),
        (f'{_BEGIN}old\n{_BEGIN}{_END}', 'has a wrong first line, or no last line'),
        (f'{_BEGIN.replace("writes", "makes")}{_END}', 'has a wrong first line, or no last line'),
        (f'{_BEGIN.replace("shift", "shfit")}{_END}', 'has no row of the claim shfit'),
    ],
)
def test_a_wrong_block_is_refused(text, message):
    with pytest.raises(ResultError, match=message):
        tables.with_tables(text, [_ROW])


def test_documents_are_written_all_or_not_at_all(tmp_path):
    good = f'{_BEGIN.replace("shift", "accuracy")}old\n{_END}'
    (tmp_path / 'how-to').mkdir()
    page, wrong = tmp_path / 'a.md', tmp_path / 'how-to' / 'b.md'
    page.write_text(good)
    wrong.write_text(_BEGIN)
    with pytest.raises(ResultError, match=r'b\.md: a table of results has'):
        tables.write(tmp_path)
    assert page.read_text() == good
    wrong.unlink()
    tables.write(tmp_path)
    assert page.read_text() == tables.with_tables(good, read())
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == [page]
