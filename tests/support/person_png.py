"""Digits of MNIST as a person would send them."""

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 200, 300
# A digit of MNIST fits into a box of 20 x 20; so scaled, 10 pixels of margin are left each side.
SCALE = 9


def as_person_png(image: np.ndarray, transparent: bool = False) -> bytes:
    """Draws a digit black on white, in the middle of a PNG with alpha of 200 x 300 pixels.

    Args:
        image: uint8 [height, width], white on black, with the digit in its middle.
        transparent: Whether the white is left out, so that there is black ink on nothing.
    """
    height, width = image.shape
    frame = Image.fromarray(image).resize((SCALE * width, SCALE * height), Image.Resampling.BICUBIC)
    ink = Image.new('L', (WIDTH, HEIGHT), 0)
    ink.paste(frame, ((WIDTH - frame.width) // 2, (HEIGHT - frame.height) // 2))
    white = Image.new('RGBA', (WIDTH, HEIGHT), (255, 255, 255, 0 if transparent else 255))
    black = Image.new('RGBA', (WIDTH, HEIGHT), (0, 0, 0, 255))
    if transparent:
        picture = black
        picture.putalpha(ink)
    else:
        picture = Image.composite(black, white, ink)
    file = io.BytesIO()
    picture.save(file, 'PNG')
    return file.getvalue()
