"""Takes the pictures of the page in docs/, with the pushed model of a folder:

export PYTHONPATH=.:tests/support
.venv/bin/python tools/demo_screenshots.py var/serving_model/capsnet
"""

import pathlib
import sys
import tempfile
import time
import urllib.parse

import numpy as np
from chromium import browser
from drawing_page import click, draw, settle
from photograph import as_photograph
from project_paths import DATA
from rest_server import rest_server

_DOCS = pathlib.Path(__file__).parents[1] / 'docs'
# By file: what is done on the page, width and height of the window, and what else is special.
_PICTURES = {
    'demo.png': (lambda page: _draw_and_bend(page, 2), 1280, 966, {}),
    'demo_two_digits.png': (lambda page: _draw_two(page, 4, 8), 1280, 760, {}),
    'demo_dark_phone.png': (lambda page: draw(page, 3), 390, 844, {'dark': True, 'phone': True}),
    'demo_photograph.png': (lambda page: _photograph(page, 4), 1280, 600, {}),
}
# By slider, counted from 0: where the sixteen of the large picture stand.
_BENT = {3: 0.12, 7: -0.18, 12: 0.2}


def main():
    model = pathlib.Path(sys.argv[1]).absolute()
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else _DOCS
    flags = [f'--model_name={model.name}', f'--model_base_path={model}', '--demo']
    with rest_server(*flags) as url, browser() as new_page:
        for name, (act, width, height, screen) in _PICTURES.items():
            page = new_page()
            page.show(width, height, **screen)
            page.open(urllib.parse.urljoin(url, '/demo/'))
            page.wait_for('document.getElementById("served").textContent')
            act(page)
            _wait(page)
            page.screenshot(folder / name)


def _draw_two(page, one, other):
    click(page, 'two')
    draw(page, one, left=-0.08, top=-0.05)
    draw(page, other, left=0.08, top=0.05)


def _draw_and_bend(page, digit):
    draw(page, digit)
    _wait(page)
    for slider, value in _BENT.items():
        page.evaluate(
            f'((input) => {{ input.value = {value}; input.dispatchEvent(new Event("input")); }})'
            f'(document.querySelectorAll("#sliders input")[{slider}])'
        )


def _photograph(page, digit):
    with np.load(DATA / 'mnist_300.npz') as mnist:
        image = mnist['images'][mnist['labels'] == digit][0]
    with tempfile.NamedTemporaryFile(suffix='.jpg') as file:
        file.write(as_photograph(image))
        file.flush()
        page.choose('file', file.name)
        page.wait_for('!document.getElementById("photograph").hidden')


def _wait(page):
    settle(page)
    time.sleep(1)  # for bars on their way, and for what is said of a picture that rests


if __name__ == '__main__':
    main()
