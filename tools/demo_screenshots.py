"""Takes the pictures of the page in docs/: start `make serve`, then

.venv/bin/python tools/demo_screenshots.py http://127.0.0.1:8501/demo/
"""

import pathlib
import sys
import time

from chromium import browser
from strokes import DIGITS

_DOCS = pathlib.Path(__file__).parents[1] / 'docs'
# By file: digit, width and height of the window, and what else is special about it.
_PICTURES = {
    'demo.png': (2, 1280, 966, {}),
    'demo_dark_phone.png': (3, 390, 844, {'dark': True, 'phone': True}),
}
# By slider, counted from 0: where the sixteen of the large picture stand.
_BENT = {3: 0.12, 7: -0.18, 12: 0.2}


def main():
    with browser() as new_page:
        for name, (digit, width, height, screen) in _PICTURES.items():
            page = new_page()
            page.show(width, height, **screen)
            page.open(sys.argv[1])
            page.wait_for('document.getElementById("served").textContent')
            x, y, side = page.evaluate(
                '(({x, y, width}) => [x, y, width])'
                '(document.getElementById("drawing").getBoundingClientRect())'
            )
            for stroke in DIGITS[digit]:
                page.mouse([(x + side * a, y + side * b) for a, b in stroke])
            _wait(page)
            for slider, value in () if screen else _BENT.items():
                page.evaluate(
                    f'((input) => {{ input.value = {value}; '
                    'input.dispatchEvent(new Event("input")); })'
                    f'(document.querySelectorAll("#sliders input")[{slider}])'
                )
            _wait(page)
            page.screenshot(_DOCS / name)


def _wait(page):
    page.wait_for('document.getElementById("lengths").ariaBusy === "false"')
    time.sleep(0.5)  # for bars on their way


if __name__ == '__main__':
    main()
