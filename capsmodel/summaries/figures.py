"""Draws pictures for TensorBoard from arrays: each result is uint8 [height, width, channels].

Images are uint8 [height, width], or [height, width, 3] in color; reconstructions are float in
[0, 1] of the same shapes; 0 is black in both. A picture has three channels, or one if it has no
colors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from capsmodel.summaries.writing import (
    BAR,
    FAINT,
    GROUND,
    TEXT,
    Color,
    font,
    mixed,
    write,
    write_parts,
    write_upwards,
)

_EMPTY = '#f6f7f8'
_RIGHT = (26, 115, 232)
_WRONG = (217, 48, 37)
_MIXED = (218, 220, 224)

_MARGIN = 16
_LINE = 22  # pixels from one line of text to the next
_TILE = 84  # height or width in pixels that an image of a digit is scaled to, approximately
_LARGEST_SMALL_IMAGE = 48  # height or width in pixels where a picture has thousands of images

# With more classes than these, a figure shows only some of them, the most telling ones.
_MOST_ROWS = 40  # of a confusion matrix
_ROWS_OF_MANY = 25
_MOSTBARS = 45  # of an image's capsules
BARS_OF_MANY = 8


def reconstructions(
    images: np.ndarray,
    reconstructed: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    names: Sequence[str],
) -> np.ndarray:
    """Inputs over their reconstructions from the winning capsule, eight in a row.

    Args:
        images: [n, height, width] or [n, height, width, 3].
        reconstructed: Of the same shape.
        labels: integers [n], the true classes.
        predictions: integers [n]; a wrong one is written in red beside the label.
        names: The name of each class.
    """
    across = min(8, len(images))
    inputs, outputs = _tiles(images), _tiles(reconstructed)
    width, height = inputs[0].size
    texts = [
        names[label] if label == prediction else f'{names[label]} taken for {names[prediction]}'
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    longest = max(font(14).getlength(text) for text in texts)
    step_x, step_y = max(width + 6, int(longest) + 8), 2 * height + 2 + _LINE + 10
    figure, draw = _figure(across * step_x - 6, -(-len(images) // across) * step_y - 10)
    for index, (above, below) in enumerate(zip(inputs, outputs, strict=True)):
        x, y = _MARGIN + index % across * step_x, _MARGIN + index // across * step_y
        x += (step_x - 6 - width) // 2
        figure.paste(above, (x, y))
        figure.paste(below, (x, y + height + 2))
        color: Color = FAINT if labels[index] == predictions[index] else _WRONG
        write(draw, (x + width / 2, y + 2 * height + 6), texts[index], 14, color, 'ma')
    return np.asarray(figure)


def capsule_dimensions(
    reconstructed: np.ndarray, names: Sequence[str], offsets: Sequence[float]
) -> np.ndarray:
    """The meaning of each number in a capsule (Sabour, Frosst, Hinton 2017, figure 4).

    Args:
        reconstructed: [n, dims, offsets, height, width] or [n, dims, offsets, height, width, 3]:
            the reconstructions when the offset is added to that one number of the image's capsule.
        names: Those of the images' classes.
        offsets: The numbers that are added, from left to right.
    """
    reconstructed = _thinned(reconstructed, _LARGEST_SMALL_IMAGE)
    n, dims, steps, height, width, *colors = reconstructed.shape
    across = min(5, n)
    left, head = 26, 2 * _LINE + 4
    titles = [f'capsule of class {name}' for name in names]
    longest = max(font(15).getlength(title) for title in titles)
    step_x = left + max(steps * (width + 1), int(longest)) + 20
    step_y = head + dims * (height + 1) + 20
    figure, draw = _figure(
        across * step_x - 20, -(-n // across) * step_y - 20, 'RGB' if colors else 'L'
    )
    for index, title in enumerate(titles):
        x, y = _MARGIN + index % across * step_x + left, _MARGIN + index // across * step_y
        write(draw, (x, y), title, 15)
        for step in (0, steps // 2, steps - 1):
            text = f'{offsets[step]:+.2g}' if offsets[step] else '0'
            middle = x + step * (width + 1) + width / 2
            write(draw, (middle, y + _LINE + 2), text, 12, FAINT, 'ma')
        for dim in range(dims):
            middle = y + head + dim * (height + 1) + height / 2
            write(draw, (x - 6, middle), f'{dim + 1}', 12, FAINT, 'rm')
        # A line to the right of each image and below it. It is dark: TensorBoard's small view of a
        # picture leaves out pixels, and would show only some of light lines.
        lines = [(0, 0), (0, 0), (0, 1), (0, 1), (0, 0)][: 4 + len(colors)]
        grid = np.pad(reconstructed[index], lines, constant_values=0.3).swapaxes(1, 2)
        grid = grid.reshape(dims * (height + 1), steps * (width + 1), *colors)
        figure.paste(_image(grid), (x, y + head))
    return np.asarray(figure) if colors else np.asarray(figure)[..., np.newaxis]


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The confusion matrix: which classes are taken for which.

    Of more than 40 classes, it shows those with the most mistakes, and the others as one.

    Args:
        counts: Integers [classes, classes]: the number of images of the row's class for which the
            column's class is predicted.
        names: The name of each class.
    """
    total, wrong = counts.sum(), counts.sum() - np.trace(counts)
    lines = [f'{wrong:,} of {total:,} images are taken for another class: {wrong / total:.2%}']
    others = len(counts)  # the row of those that have none of their own
    if len(counts) > _MOST_ROWS:
        chosen, counts = most_mistaken(counts)
        lines.append(f'the {len(chosen)} classes of {len(names):,} with the most mistakes')
        others = len(chosen)
        names = [*(names[label] for label in chosen), 'others']
    cell = min(56, 720 // len(names))
    size = min(18, cell // 2 + 1)
    longest = int(max(font(size).getlength(name) for name in names))
    upright = longest < cell
    left = max(60, longest + 36)
    head = _LINE * (len(lines) + 1) + 8 + (_LINE if upright else longest + 8)
    side = len(names) * cell
    width = max(side, *(int(font(19).getlength(line)) for line in lines))
    figure, draw = _figure(left + width, head + side)
    x0, y0 = _MARGIN + left, _MARGIN + head
    for number, line in enumerate(lines):
        write(draw, (x0, _MARGIN + number * (_LINE + 2)), line, 19)
    place = (x0 + side / 2, _MARGIN + len(lines) * _LINE + 8)
    write(draw, place, 'predicted', 17, FAINT, 'ma')
    write_upwards(figure, (_MARGIN, y0 + side // 2), 'true', 17, FAINT)
    for row, name in enumerate(names):
        middle = row * cell + cell // 2
        write(draw, (x0 - 8, y0 + middle), name, size, TEXT, 'rm')
        if upright:
            write(draw, (x0 + middle, y0 - 6), name, size, TEXT, 'ms')
        else:
            above = (x0 + middle - size // 2 - 2, y0 - 6 - longest // 2)
            write_upwards(figure, above, name, size, TEXT)
        images = max(1, counts[row].sum())
        for column, count in enumerate(counts[row]):
            share = count / images
            # Mistakes are rare: they have their full color if they are a tenth of the images.
            color, shade = (
                (_RIGHT, share) if row == column else (_WRONG, min(1, (10 * share) ** 0.5))
            )
            if row == column == others:  # right and wrong ones
                color, shade = _MIXED, 1
            x, y = x0 + column * cell, y0 + row * cell
            fill = mixed(color, shade) if count else _EMPTY
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=fill)
            if count and font(size).getlength(f'{count}') < cell - 2:
                ink = GROUND if shade > 0.6 and color != _MIXED else TEXT
                write(draw, (x + cell / 2 - 1, y + cell / 2 - 1), f'{count}', size, ink, 'mm')
    return np.asarray(figure)


def most_mistaken(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the classes with the most mistakes, and groups the other classes.

    Returns:
        chosen: integers [rows], in order.
        counts: integers [rows + 1, rows + 1]; the last row and column are for all other classes.
    """
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    chosen = np.sort(np.argsort(-wrong, kind='stable')[:_ROWS_OF_MANY])
    group = np.full(len(counts), len(chosen))
    group[chosen] = np.arange(len(chosen))
    grouped = np.zeros((len(chosen) + 1,) * 2, counts.dtype)
    np.add.at(grouped, (group[:, np.newaxis], group), counts)
    return chosen, grouped


def mistakes(
    images: np.ndarray,
    reconstructed: np.ndarray,
    labels: np.ndarray,
    lengths: np.ndarray,
    names: Sequence[str],
) -> np.ndarray:
    """Images beside their reconstructions and the lengths of their capsules, three in a row.

    Args:
        images: [n, height, width] or [n, height, width, 3].
        reconstructed: Of the same shape, from the capsule of the predicted class; [0, ...]
            without a decoder.
        labels: integers [n], the true classes.
        lengths: float [n, classes]; the longest capsule is the predicted class. Of more than 45
            capsules, only the eight longest and the label's have a bar.
        names: The name of each class.
    """
    classes = lengths.shape[1]
    bar, bars = max(4, min(14, 180 // classes)), classes
    if classes > _MOSTBARS:
        bar, bars = 24, BARS_OF_MANY + 1
    across = min(3, len(images))
    inputs = _tiles(images)
    outputs = _tiles(reconstructed) if len(reconstructed) else []
    width, height = inputs[0].size
    chart = bars * bar
    longest = max(names, key=font(12).getlength)
    upright = font(12).getlength(longest) < bar + 4
    foot = _LINE if upright or bar < 10 else int(font(12).getlength(longest)) + 8
    said = font(15).getlength(f'{longest} 0.00 taken for {longest} 0.00') + 4 * 8
    panel = max((2 if outputs else 1) * (width + 4) + 12 + chart, int(said))
    step_x, step_y = panel + 36, _LINE + height + foot + 14
    figure, draw = _figure(across * step_x - 36, -(-len(images) // across) * step_y - 14)
    for index, label in enumerate(labels):
        x, y = _MARGIN + index % across * step_x, _MARGIN + index // across * step_y
        prediction = int(np.argmax(lengths[index]))
        parts: list[tuple[str, Color]] = [
            (names[label], _RIGHT),
            (f'{lengths[index, label]:.2f}', FAINT),
        ]
        if prediction != label:
            parts.append((f'taken for {names[prediction]}', _WRONG))
            parts.append((f'{lengths[index, prediction]:.2f}', FAINT))
        write_parts(draw, (x, y), parts, 15)
        y += _LINE
        for tile in (inputs[index], *outputs[index : index + 1]):
            figure.paste(tile, (x, y))
            x += width + 4
        x += 12
        # Lines at the lengths 0 and 1.
        for line in (y, y + height):
            draw.line((x, line, x + chart, line), fill=BAR)
        for number, shown in enumerate(_shown_bars(lengths[index], label)):
            color = {prediction: _WRONG, label: _RIGHT}.get(shown, BAR)
            left, right = x + number * bar + 1, x + (number + 1) * bar - 2
            top = y + round((1 - float(lengths[index, shown])) * height)
            draw.rectangle((left, top, right, y + height), fill=color)
            ink = FAINT if color == BAR else TEXT
            if bar >= 10 and upright:
                place = (x + number * bar + bar / 2, y + height + 4)
                write(draw, place, names[shown], 12, ink, 'ma')
            elif bar >= 10:
                middle = y + height + 6 + int(font(12).getlength(names[shown])) // 2
                write_upwards(figure, (left - 1, middle), names[shown], 12, ink)
    return np.asarray(figure)


def _shown_bars(lengths: np.ndarray, label: int) -> list[int]:
    """The classes whose capsules have a bar, in order."""
    if len(lengths) <= _MOSTBARS:
        return list(range(len(lengths)))
    longest = np.argsort(-lengths, kind='stable')[:BARS_OF_MANY]
    return sorted({int(label), *map(int, longest)})


def _figure(width: int, height: int, mode: str = 'RGB') -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty figure for contents of the given size in pixels, with a margin around it."""
    figure = Image.new(mode, (width + 2 * _MARGIN, height + 2 * _MARGIN), GROUND)
    return figure, ImageDraw.Draw(figure)


def _tiles(images: np.ndarray) -> list[Image.Image]:
    images = _thinned(images, 2 * _TILE)
    scale = max(1, round(_TILE / max(images.shape[1:3])))
    return [_image(image.repeat(scale, 0).repeat(scale, 1)) for image in images]


def _thinned(images: np.ndarray, largest: int) -> np.ndarray:
    """Keeps every k-th row and column so that there are at most `largest` of each.

    Args:
        images: [..., height, width], or [..., height, width, 3] in color.
        largest: The most rows or columns.
    """
    has_colors = images.shape[-1] == 3
    size = images.shape[-3:-1] if has_colors else images.shape[-2:]
    step = -(-max(size) // largest)
    return images[..., ::step, ::step, :] if has_colors else images[..., ::step, ::step]


def _image(image: np.ndarray) -> Image.Image:
    if image.dtype != np.uint8:
        image = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return Image.fromarray(image)
