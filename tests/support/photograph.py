"""A digit of MNIST as a person would photograph it: written on a sheet, in uneven light."""

import io

import numpy as np
from PIL import Image, ImageFilter

_ORIENTATION = 0x0112  # Exif's tag


def as_photograph(image: np.ndarray, width: int = 1200, height: int = 900, turned=False) -> bytes:
    """Draws a digit as dark ink on paper, right of the middle, and takes a photograph of it.

    Args:
        image: uint8 [28, 28], white on black.
        width: Width of the photograph in pixels.
        height: Its height; the digit takes half of it.
        turned: Whether the camera was held upright: the pixels lie on their side, and Exif tells.

    Returns:
        A JPEG.
    """
    size = height * 28 // 40
    digit = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    # Ink has sharp edges, and a large image of 28 x 28 pixels has not.
    digit = digit.point(lambda value: min(255, max(0, 5 * (value - 100))))
    ink = Image.new('L', (width, height))
    ink.paste(digit, (width * 11 // 20 - size // 2, (height - size) // 2))
    ink = ink.filter(ImageFilter.GaussianBlur(height / 400))
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    light = (0.95 - 0.35 * across - 0.15 * down)[..., np.newaxis]
    paper = np.array([236, 226, 205]) * light
    pen = np.array([40, 45, 90]) * light
    share = np.asarray(ink)[..., np.newaxis] / 255
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 1))
    pixels = np.clip(paper + share * (pen - paper) + noise, 0, 255).astype(np.uint8)
    photograph = Image.fromarray(pixels)
    exif = Image.Exif()
    if turned:
        photograph = photograph.transpose(Image.Transpose.ROTATE_90)
        exif[_ORIENTATION] = 6
    file = io.BytesIO()
    photograph.save(file, 'JPEG', quality=85, exif=exif)
    return file.getvalue()
