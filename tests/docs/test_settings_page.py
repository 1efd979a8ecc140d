"""docs/settings.md has every setting, as it is declared."""

import pytest

from capsmodel.settings import declared
from pipeline import settings
from tools import settings_page


def test_the_page_is_that_of_the_declarations():
    text = settings_page.PAGE.read_text(encoding='utf-8')
    assert text == settings_page.page(), 'write it again: python -m tools.settings_page'


def test_every_setting_is_on_the_page():
    assert settings_page.documented() == declared(settings.Config).keys()


def test_the_page_is_written_beside_and_renamed(tmp_path):
    page = tmp_path / 'settings.md'
    settings_page.write(page)
    assert page.read_text(encoding='utf-8') == settings_page.page()
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(
    'row',
    [
        '| `SEED` | `42` | whole number from 0 to 4,294,967,295 | Number from which initial ',
        '| `CNN_WIDTH` | `1.0` | number from 0.001 to 100 | Factor on the channels ',
        '| `DECODER` | `yes` | `yes`, `no` | Reconstruct the image, as a regularizer. Only for '
        '`capsnet` and `efficient_capsnet`. |',
        '| `PROFILE_STEPS` |  | whole numbers from 1, with commas | First and last step ',
        '| `STEM` | `auto` | `auto`, `none`, `1`, `2`, `3` | Strided 3x3 convolutions ',
        '| `LEARNING_RATE` | `0.0003` with `NETWORK=cnn` |',
    ],
)
def test_a_row_has_default_bounds_and_networks(row):
    assert any(line.startswith(row) for line in settings_page.page().splitlines())
