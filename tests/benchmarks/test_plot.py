"""Tests of the picture of images/s against the batch size."""

import json

import pytest

from benchmarks import plot

ROWS = [
    {
        'name': name,
        'kind': 'step',
        'batch': batch,
        'images_per_s': rate,
        'parameters': 8_215_568,
        'dtype': 'float32',
        'gradient_mode': 'all',
        'threads': 2,
    }
    for name, batch, rate in [
        ('textbook', 32, 120.0),
        ('ours', 32, 400.0),
        ('textbook', 16, 100.0),
        ('ours', 16, 300.0),
    ]
] + [{'name': 'sgemm', 'kind': 'machine', 'batch': 16, 'images_per_s': 900.0}]


def test_series_are_of_steps_with_the_fastest_first():
    assert list(plot.series(ROWS).items()) == [
        ('ours', [(16, 300.0), (32, 400.0)]),
        ('textbook', [(16, 100.0), (32, 120.0)]),
    ]


def test_the_picture_has_a_line_for_each_step(tmp_path):
    pytest.importorskip('matplotlib', reason='matplotlib is in the environment of benchmarks only')
    plot.draw(ROWS, str(tmp_path / 'picture.svg'))
    assert [path.name for path in tmp_path.iterdir()] == ['picture.svg']
    text = (tmp_path / 'picture.svg').read_text()
    for words in ('ours', 'textbook', 'images a step', '8.2 million parameters'):
        assert f'<!-- {words} -->' in text or words in text


@pytest.mark.parametrize(
    ('content', 'message'),
    [('no JSON', 'cannot be read'), (json.dumps(ROWS[-1:]), 'has no rows of training steps')],
)
def test_a_file_without_rows_ends_in_a_sentence(content, message, tmp_path, capsys):
    rows, picture = tmp_path / 'rows.json', tmp_path / 'picture.png'
    rows.write_text(content)
    with pytest.raises(SystemExit):
        plot.main([str(rows), str(picture)])
    assert message in capsys.readouterr().err
    assert not picture.exists()
