"""The report of the study: made from a small file, and the one in docs/ as the rows have it now."""

import subprocess

import numpy as np
import pytest
from PIL import Image
from project_paths import DATA, ROOT

from study import report
from study.results import read

RESULTS = DATA / 'study_results.csv'


def test_a_report_is_made_from_a_small_file():
    made = report.text(read(RESULTS))
    assert made == (DATA / 'study_report.md').read_text()


def test_the_report_in_docs_is_that_of_the_results():
    assert (ROOT / 'docs' / 'study.md').read_text() == report.text(read()), 'type make study-report'


def test_every_chart_of_the_report_is_there():
    page = (ROOT / 'docs' / 'study.md').read_text()
    named = {line.split('(study/')[1].rstrip(')') for line in page.splitlines() if '![' in line}
    assert named == {path.name for path in (ROOT / 'docs' / 'study').glob('*.png')}


@pytest.mark.slow
def test_the_charts_are_drawn(tmp_path):
    python = ROOT / '.venv-docs' / 'bin' / 'python'
    if not python.exists():
        pytest.skip('matplotlib is in the environment of make setup-docs')
    command = [python, '-m', 'study.report', '--results', RESULTS, '--docs', tmp_path]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / 'study.md').read_text() == (DATA / 'study_report.md').read_text()
    names = sorted(path.name for path in (tmp_path / 'study').iterdir())
    assert names == ['attacks.png', 'iterations-mnist.png', 'overlap.png', 'viewpoint.png']
    for name in names:
        with Image.open(tmp_path / 'study' / name) as picture:
            assert picture.size == (960, 540)
            colours = np.unique(np.asarray(picture.convert('RGB')).reshape(-1, 3), axis=0)
        # A line or a bar of the first series, in its colour.
        assert (colours == (0x00, 0x72, 0xB2)).all(axis=1).any()
