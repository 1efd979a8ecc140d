"""What a model is meant for, and what is not known of it: the sentences of its card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# As many names of classes stand in a sentence.
_MOST_NAMED = 12


def of(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Sentences by part of the card: `intended`, `not_intended`, `ethics` and `limits`.

    Args:
        facts: The facts of the card, see `component.ModelCard`.
    """
    return {
        'intended': _intended(facts),
        'not_intended': _not_intended(facts),
        'ethics': _ethics(),
        'limits': _limits(facts),
    }


def _intended(facts: Mapping[str, Any]) -> list[str]:
    model, data = facts['model'], facts['data']
    names = model['class_names']
    named = ', '.join(names[:_MOST_NAMED])
    if len(names) > _MOST_NAMED:
        named += f' and {len(names) - _MOST_NAMED:,} more'
    sentences = [
        f'The model says which of {len(names):,} classes a picture shows: {named}.',
        f'It is meant for pictures like those of its data, {data["dataset"]}.',
    ]
    if model['framing'] == 'strokes':
        sentences.append(
            'It looks for strokes, dark on light or light on dark, and gives them the size and the '
            'place that they have in the training images. A picture should have one sign and '
            'nothing else.'
        )
    else:
        height, width, *_ = model['image_shape']
        sentences.append(
            f'It scales the whole picture to {width} x {height} pixels. What the picture shows '
            'should fill as much of it as in the training images.'
        )
    if facts['asked']['guard']:
        sentences.append(
            'Besides the class it answers whether the picture is known, which means that it looks '
            'like the images of the classes. Where known is false, do not use the class: ask for '
            'another picture, or ask a person.'
        )
    return sentences


def _not_intended(facts: Mapping[str, Any]) -> list[str]:
    wrong = 1 - facts['evaluation']['overall']['accuracy']
    sentences = [
        'Pictures of anything but the classes. The model answers one of its classes whatever it is '
        'given.'
    ]
    if facts['asked']['guard']:
        sentences.append(
            'Its answer known is false for many pictures of other things, but not for all. This '
            'card does not measure for how many.'
        )
    if facts['model']['framing'] == 'strokes':
        sentences.append('Several signs in one picture, such as a number or a word.')
    sentences.append(
        'Uses where a wrong answer does harm and nobody checks it: '
        f'{wrong:.2%} of the test images got a wrong one.'
    )
    return sentences


def _ethics() -> list[str]:
    return [
        'The data say nothing about the people who wrote, drew or photographed what they show. So '
        'nothing was measured by groups of people, and this card makes no statement about them.',
        'The card may show test images, with their ids. Whoever may read the card may see them.',
    ]


def _limits(facts: Mapping[str, Any]) -> list[str]:
    evaluation, asked = facts['evaluation'], facts['asked']
    sentences = [
        'The test images are a part of the same data as the training images. Pictures from another '
        'source may be harder, and the intervals do not cover that: they only say how much a '
        'figure depends on which images happen to be in the test set.',
    ]
    if evaluation['kinds']:
        sentences.append(
            "The kinds of people's pictures are drawn by a program from test images. They are not "
            'photographs that people took.'
        )
    sentences.append(
        'A score is no probability. How far the two are apart is the expected calibration error.'
    )
    if asked['images'] < asked['of_images']:
        sentences.append(
            f'Confusions, the reliability diagram, mistakes and the rows about right and wrong '
            f'answers come from {asked["images"]:,} of the {asked["of_images"]:,} test images.'
        )
    return sentences
