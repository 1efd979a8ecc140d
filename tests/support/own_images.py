"""A folder of pictures such as people have: of any size, PNG and JPEG, some of them damaged."""

import colorsys
import io
import os
import pathlib
import random
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

# Hues, as fractions of the circle. Shape, size and brightness are the same for all classes: only
# the colour tells them apart.
CLASSES = {'blueberry': 0.62, 'lime': 0.3, 'tomato': 0.0}


def write_folder(
    folder: str | os.PathLike,
    count: int,
    damaged: int = 0,
    seed: int = 0,
    classes: Mapping[str, float] = CLASSES,
) -> None:
    """Writes pictures of coloured shapes, in a sub-folder for each class.

    Args:
        folder: Where to write.
        count: The number of pictures, as many of each class as of the others.
        damaged: How many of them cannot be decoded, the last ones.
        seed: The same one gives the same pictures.
        classes: Hues by name.
    """
    rng = random.Random(seed)
    names = list(classes)
    for name in names:
        pathlib.Path(folder, name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        name = names[index % len(names)]
        kind = rng.choice(['PNG', 'JPEG'])
        file = io.BytesIO()
        picture(rng, classes[name]).save(file, kind)
        content = file.getvalue()
        if index >= count - damaged:
            content = rng.choice([b'', b'not a picture', content[: len(content) // 2]])
        suffix = {'PNG': 'png', 'JPEG': 'jpg'}[kind]
        pathlib.Path(folder, name, f'{index:04}.{suffix}').write_bytes(content)


def picture(rng: random.Random, hue: float) -> Image.Image:
    """An RGB picture of 20 to 200 pixels a side: shapes of one hue on a grey, uneven ground."""
    width, height = rng.randint(20, 200), rng.randint(20, 200)
    ground = np.random.default_rng(rng.getrandbits(32)).normal(rng.uniform(60, 200), 12, (9, 9))
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8)).resize((width, height))
    image = image.convert('RGB')
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(1, 3)):
        fill = _colour((hue + rng.uniform(-0.04, 0.04)) % 1, rng.uniform(0.3, 0.6))
        x, y = rng.uniform(0, 0.6) * width, rng.uniform(0, 0.6) * height
        box = (x, y, x + rng.uniform(0.25, 0.4) * width, y + rng.uniform(0.25, 0.4) * height)
        corners = [(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) / 2, box[1])]
        shape = rng.choice(['ellipse', 'rectangle', 'triangle'])
        if shape == 'triangle':
            draw.polygon(corners, fill=fill)
        else:
            getattr(draw, shape)(box, fill=fill)
    return image


def _colour(hue: float, grey: float) -> tuple[int, ...]:
    """The colour of a hue that becomes a certain grey, from 0 to 1, where colours are dropped."""
    pure = np.array(colorsys.hls_to_rgb(hue, 0.5, 0.9))
    own = pure @ (0.299, 0.587, 0.114)
    mixed = pure * grey / own if grey < own else pure + (1 - pure) * (grey - own) / (1 - own)
    return tuple(round(255 * each) for each in mixed)
