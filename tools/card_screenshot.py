"""Takes the picture of a model card in docs/: its beginning, and what was measured, side by side.

export PYTHONPATH=.:tests/support
.venv/bin/python tools/card_screenshot.py $(make card)
"""

import io
import pathlib
import sys
import tempfile

from chromium import browser
from PIL import Image

_PICTURE = pathlib.Path(__file__).parents[1] / 'docs' / 'model-card.png'
_WIDTH, _HEIGHT = 900, 1500  # of each half, in CSS pixels
_SECOND = 'Accuracy by class'  # where the second half begins
_SHOWN = 1300  # the width of the picture
_COLOURS = 256


def main():
    path = pathlib.Path(sys.argv[1]).absolute()
    with browser() as new_page, tempfile.TemporaryDirectory() as folder:
        page = new_page()
        page.show(_WIDTH, _HEIGHT)
        page.open(path.as_uri())
        halves = []
        for title in ('', _SECOND):
            page.evaluate(
                'scrollTo(0, [...document.querySelectorAll("section")]'
                f'.find((part) => part.innerText.startsWith("{title}"))'
                '?.getBoundingClientRect().top - 12 + scrollY)'
                if title
                else 'scrollTo(0, 0)'
            )
            file = pathlib.Path(folder, 'half.png')
            page.screenshot(file)
            halves.append(Image.open(io.BytesIO(file.read_bytes())).convert('RGB'))
    width, height = halves[0].size
    both = Image.new('RGB', (2 * width, height))
    for place, half in enumerate(halves):
        both.paste(half, (place * width, 0))
    both.thumbnail((_SHOWN, _SHOWN))
    # This way of choosing colours keeps those that few pixels have.
    few = both.quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(_PICTURE, optimize=True)


if __name__ == '__main__':
    main()
