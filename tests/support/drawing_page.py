"""What a person does on the page at /demo, and sees there, in a real browser."""

import base64
import io

import numpy as np
from PIL import Image
from strokes import DIGITS

DESKTOP = (1280, 800)
PHONE = (390, 844)


def open_demo(page, digits_url, query=''):
    page.open(digits_url.replace('/v1/models/digits', f'/demo/{query}'))


def strokes_at(page, digit, size=1.0, left=0.0, top=0.0):
    """Strokes in the window, in the square of the drawing area given in shares of its side."""
    x, y, side = page.evaluate(
        '(({x, y, width}) => [x, y, width])'
        '(document.getElementById("drawing").getBoundingClientRect())'
    )
    return [
        [(x + side * (left + size * a), y + side * (top + size * b)) for a, b in stroke]
        for stroke in DIGITS[digit]
    ]


def draw(page, digit, hand='mouse', **place):
    for stroke in strokes_at(page, digit, **place):
        getattr(page, hand)(stroke)


def click(page, name):
    page.evaluate(f'document.getElementById("{name}").click()')


def settle(page):
    """Waits until all has been asked and shown."""
    page.wait_for('document.getElementById("lengths").ariaBusy === "false"')


def answer(page):
    """The digit that wins, or None, once all has been asked and shown; and the bars' lengths."""
    settle(page)
    winner = page.evaluate('document.querySelector(".bar.wins .name")?.textContent')
    lengths = page.evaluate(
        '[...document.querySelectorAll(".bar")].map((bar) => Number(bar.ariaValueNow))'
    )
    return (None if winner is None else int(winner)), lengths


def painted(page, selector):
    """What is painted on a canvas, uint8 [height, width, 4]: red, green, blue and opacity."""
    url = page.evaluate(f'document.querySelector("{selector}").toDataURL()')
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.split(',')[1]))))


def opacity(page, selector):
    """The ink on a canvas, uint8 [side, side]: full ink is 255."""
    return painted(page, selector)[..., 3]


def is_shown(page, name):
    return page.evaluate(f'document.getElementById("{name}").checkVisibility()')
