"""The parts of a card with what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.model_card import charts
from components.model_card.asked import MOST_CLASSES
from components.model_card.elements import (
    Html,
    element,
    escaped,
    interval,
    paragraphs,
    percent,
    section,
    table,
)

Facts = Mapping[str, Any]

# Of more than MOST_CLASSES classes, those with the lowest accuracies are shown.
_WORST_CLASSES = 20


def learning_curve(facts: Facts) -> Html:
    """Accuracy and loss while the network learned."""
    curves = facts['curves']
    figures = []
    parts = {'train': ('first', 'training'), 'eval': ('other', 'evaluation')}
    names = [name for name in ('accuracy', 'loss') if any(name in c for c in curves.values())]
    names += [n for n in curves.get('eval', {}) if n.endswith('_loss') and n not in names]
    for name in names:
        there = {part: curves[part][name] for part in parts if name in curves.get(part, {})}
        shown = {parts[part][0]: points for part, points in there.items()}
        keys = [element('span', parts[part][1], class_=f'key-{parts[part][0]}') for part in there]
        title = name.replace('_', ' ')
        figures.append(
            element(
                'figure',
                Html(charts.lines(shown, f'{title} by step of the training', 'steps')),
                element('figcaption', f'{title}: ', Html(' and '.join(keys)), ' images'),
            )
        )
    if not figures:
        return section(
            'Learning curve', paragraphs('This model has none: its training wrote no log.')
        )
    images = facts['data']['splits'].get('eval', {}).get('images', 0)
    return section(
        'Learning curve',
        paragraphs(
            f'Evaluation images are the {images:,} images of eval, which the network looks at '
            'after each epoch. A point of the other curve is a mean over the training images '
            'since the point before, each looked at before the network learned from it.',
            class_='soft',
        ),
        element('div', *figures, class_='charts'),
    )


def by_slice(facts: Facts) -> Html:
    """The Evaluator's metrics of all test images and of each class."""
    evaluation = facts['evaluation']
    classes = evaluation['classes']
    note = ''
    if len(classes) > MOST_CLASSES:
        classes = sorted(classes, key=lambda each: (each['accuracy'], each['label']))
        classes = classes[:_WORST_CLASSES]
        note = f' Of {len(evaluation["classes"]):,} classes, the {len(classes)} worst are shown.'
    named = [('all test images', evaluation['overall'])]
    named += [(f'class {each["class"]}', each) for each in classes]
    change = evaluation['accuracy_change']
    return section(
        'Accuracy by class',
        paragraphs(
            f'Measured by the Evaluator on the {evaluation["overall"]["images"]:,} images of test, '
            'which no training has seen. The interval is the 95% interval of Wilson. ECE is the '
            'expected calibration error, see below. Refused are the images for which the model '
            f'answers known = false.{note}',
            class_='soft',
        ),
        _slices(named),
        paragraphs(
            f'The accuracy changed by {change:+.2%} against the last blessed model, on the same '
            'test images.'
            if change is not None
            else 'No earlier blessed model could be compared with it.'
        ),
        ''
        if facts['model']['has_decoder']
        else paragraphs('The network has no decoder, so there is no reconstruction error.'),
    )


def kinds(facts: Facts) -> Html:
    """The Evaluator's metrics of each kind of drawn pictures."""
    measured = facts['evaluation']['kinds']
    if not measured:
        return section(
            'Kinds of pictures',
            paragraphs(
                "There are none. People's pictures are drawn from test images only for a model "
                'that looks for strokes.'
            ),
        )
    ordered = sorted(measured, key=lambda each: (each['accuracy'], each['kind']))
    return section(
        'Kinds of pictures',
        paragraphs(
            f'{sum(each["images"] for each in measured):,} pictures that the node PictureKinds '
            'drew from test images, as people would write or photograph them. Measured by the '
            'Evaluator; the worst kind comes first.',
            class_='soft',
        ),
        _slices([(each['kind'], each) for each in ordered]),
    )


def _slices(named: Sequence[tuple[str, Facts]]) -> Html:
    """A table with a row for each slice."""
    slices = [each for _, each in named]
    low = charts.lowest_for_whiskers([each['accuracy_interval'] for each in slices])
    head: list[object] = ['', 'images', 'accuracy', '95% interval', f'{low:.0%} to 100%']
    others = {
        'refused': ('refused', percent),
        'calibration_error': ('ECE', '{:.3f}'.format),
        'reconstruction_error': ('reconstruction error', '{:.1f}'.format),
    }
    there = [name for name in others if any(name in each for each in slices)]
    rows = [
        [
            name,
            f'{each["images"]:,}',
            percent(each['accuracy']),
            interval(each['accuracy_interval']),
            Html(charts.whiskers(each['accuracy'], each['accuracy_interval'], low)),
            *(others[o][1](each[o]) if o in each else 'none' for o in there),
        ]
        for name, each in named
    ]
    return table([*head, *(others[name][0] for name in there)], rows)


def confusion(facts: Facts) -> Html:
    """Which classes are taken for which."""
    asked = facts['asked']
    names = facts['model']['class_names']
    pairs = table(
        ['shows', 'answered', 'images'],
        [[p['class'], p['answer'], f'{p["images"]:,}'] for p in asked['confused'][:10]],
    )
    if not asked['confused']:
        pairs = paragraphs('No class was taken for another one.')
    matrix = ''
    if asked['confusion'] is None:
        how = f'With {len(names):,} classes, only the most frequent confusions are shown.'
    else:
        how = 'A row is what the images show, a column what the model answered.'
        matrix = _matrix(asked['confusion'], names)
    return section(
        'Confusions',
        paragraphs(f'{_asked(asked)} {how}', class_='soft'),
        matrix,
        element('h3', 'Most frequent'),
        pairs,
    )


def _matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    rows = []
    for label, row in enumerate(counts):
        total = sum(row) or 1
        cells = []
        for answer, count in enumerate(row):
            # A share of 2% is to be seen beside one of 98%.
            share = 0.0 if answer == label else min(1.0, (count / total) ** 0.5 * 2)
            style = f'background:rgba(var(--heat),{share:.2f})' if share else ''
            text = element('b', f'{count:,}') if answer == label else f'{count:,}' if count else ''
            cells.append(element('td', text, style=style))
        rows.append(element('tr', element('th', names[label], scope='row'), *cells))
    head = element('tr', element('th', ''), *(element('th', name, scope='col') for name in names))
    return element('div', element('table', head, *rows, class_='matrix'), class_='wide')


def calibration(facts: Facts) -> Html:
    """How often the model is right when its highest score is so high."""
    asked = facts['asked']
    error = facts['evaluation']['overall'].get('calibration_error')
    rows = [
        [
            f'{each["from"]:.2f} to {each["to"]:.2f}',
            f'{each["images"]:,}',
            f'{each["mean_score"]:.3f}',
            percent(each['accuracy']),
        ]
        for each in asked['reliability']
    ]
    return section(
        'Calibration',
        paragraphs(
            f'The expected calibration error is {error:.3f}, measured by the Evaluator on all '
            f'{facts["evaluation"]["overall"]["images"]:,} test images: the mean distance between '
            'the highest score and the accuracy, over equal bins of scores (Guo and others '
            '2017). It is 0 where the answers with a score of 0.9 are right in 90% of the cases.'
            if error is not None
            else ''
        ),
        paragraphs(_asked(asked), class_='soft'),
        element(
            'figure',
            Html(charts.reliability(asked['reliability'], 'Accuracy by highest score')),
            element('figcaption', 'Bars: accuracy by highest score. Line: where both are equal.'),
        ),
        element(
            'details',
            element('summary', 'The bins as numbers'),
            table(['highest score', 'images', 'mean score', 'accuracy'], rows),
        ),
    )


def guard(facts: Facts) -> Html:
    """What the answer `known` does for right and for wrong answers."""
    found = facts['asked']['guard']
    overall = facts['evaluation']['overall']
    if not found or 'refused' not in overall:
        return section('Guard', paragraphs('This model has no guard: it refuses nothing.'))
    mistakes, refused = found['mistakes'], found['refused_mistakes']
    rate = facts['settings'].get('GUARD_FALSE_ALARMS')
    return section(
        'Guard',
        paragraphs(
            f'The guard answers known = false for {overall["refused"]:.2%} of the '
            f'{overall["images"]:,} test images, by the Evaluator'
            + (f'; its thresholds were set to refuse {float(rate):.2%} of eval' if rate else '')
            + '. The tables above have the rate of each class and kind of picture.'
        ),
        paragraphs(_asked(facts['asked']), class_='soft'),
        table(
            ['', 'value', '95% interval'],
            [
                [
                    'refused',
                    percent(found['refused'] / facts['asked']['images']),
                    interval(found['refused_interval']),
                ],
                [
                    'accuracy of what is not refused',
                    percent(found['accuracy_of_known']),
                    interval(found['accuracy_of_known_interval']),
                ],
                ['wrong answers that are refused', f'{refused:,} of {mistakes:,}', ''],
            ],
        ),
    )


def mistakes(facts: Facts) -> Html:
    """The pictures with the surest wrong answers."""
    asked = facts['asked']
    wrong = asked['images'] - asked['correct']
    figures = [
        element(
            'figure',
            Html(
                f'<img src="data:image/png;base64,{each["png"]}" '
                f'alt="a picture of {escaped(each["class"])}" title="{escaped(each["id"])}">'
            ),
            element(
                'figcaption',
                f'{each["class"]}, answered {each["answer"]} with {each["score"]:.3f}'
                + ('' if each['known'] in (True, None) else ', not known'),
            ),
        )
        for each in asked['mistakes']
    ]
    if not figures:
        return section('Worst mistakes', paragraphs(_asked(asked), 'No answer was wrong.'))
    return section(
        'Worst mistakes',
        paragraphs(
            f'{_asked(asked)} {wrong:,} of the answers were wrong. These are the {len(figures)} '
            'with the highest scores, as the network was given the pictures.',
            class_='soft',
        ),
        element('div', *figures, class_='pictures'),
    )


def _asked(asked: Facts) -> str:
    """Says on how many images the model was asked for this card."""
    if asked['images'] == asked['of_images']:
        return (
            f'Measured for this card by asking the model about all {asked["images"]:,} test images.'
        )
    return (
        f'Measured for this card by asking the model about {asked["images"]:,} of the '
        f'{asked["of_images"]:,} test images, chosen by a hash of their ids.'
    )
