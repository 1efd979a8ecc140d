"""The page of a card: HTML that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.model_card import measured
from components.model_card.asked import MOST_CLASSES
from components.model_card.elements import (
    Html,
    bullets,
    definitions,
    element,
    escaped,
    interval,
    paragraphs,
    percent,
    section,
    table,
    value,
)
from components.model_card.style import CSS

Facts = Mapping[str, Any]

_MITCHELL = Html(
    'The parts of this card follow <a href="https://arxiv.org/abs/1810.03993">Mitchell and others '
    '2019, “Model Cards for Model Reporting”</a>.'
)
# Of more classes than a table has columns for, the rarest and the most frequent.
_EXTREMES = 5


def of(facts: Facts) -> str:
    """The page of a card; the same facts make the same page.

    Args:
        facts: See `component.ModelCard`.
    """
    title = f'Model card of {facts["pipeline"]}'
    body = ''.join(
        [
            _head(facts, title),
            _details(facts),
            _intended_use(facts),
            _factors(facts),
            _data(facts),
            measured.learning_curve(facts),
            measured.by_slice(facts),
            measured.kinds(facts),
            measured.confusion(facts),
            measured.calibration(facts),
            measured.guard(facts),
            measured.mistakes(facts),
            section('Ethical considerations', bullets(facts['use']['ethics'])),
            section('Limits', bullets(facts['use']['limits'])),
            _reproduce(facts),
            element('footer', paragraphs(_MITCHELL, class_='soft')),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{escaped(title)}</title>\n<style>{CSS}</style>\n</head>\n'
        f'<body>\n{body}\n</body>\n</html>\n'
    )


def _head(facts: Facts, title: str) -> Html:
    evaluation = facts['evaluation']
    overall = evaluation['overall']
    worst = min(
        evaluation['classes'], key=lambda each: (each['accuracy'], each['label']), default=None
    )
    figures = [
        (percent(overall['accuracy']), 'test accuracy', interval(overall['accuracy_interval']))
    ]
    if worst:
        text = interval(worst['accuracy_interval'])
        figures.append((percent(worst['accuracy']), f'worst class: {worst["class"]}', text))
    if evaluation['kinds']:
        kind = min(evaluation['kinds'], key=lambda each: (each['accuracy'], each['kind']))
        text = interval(kind['accuracy_interval'])
        figures.append((percent(kind['accuracy']), f'worst pictures: {kind["kind"]}', text))
    if 'refused' in overall:
        figures.append((percent(overall['refused']), 'of the test images refused', ''))
    verdict = (
        element('span', 'Blessed', class_='good')
        if evaluation['blessed']
        else element('span', 'Rejected', class_='bad')
    )
    reason = 'it reaches each bound' if evaluation['blessed'] else '; '.join(evaluation['missed'])
    return element(
        'header',
        element('h1', title),
        paragraphs(Html(f'{verdict} by the Evaluator: {escaped(reason)}.')),
        element(
            'div',
            *(
                element('div', element('b', number), name, element('div', text, class_='soft'))
                for number, name, text in figures
            ),
            class_='figures',
        ),
    )


def _details(facts: Facts) -> Html:
    model = facts['model']
    shape = ' x '.join(map(str, model['image_shape']))
    scores = 'lengths of capsules' if model['has_capsules'] else 'one for each class'
    tuned = ', '.join(f'{name}={value(each)}' for name, each in facts['tuned'].items())
    missing = []
    if not model['has_capsules']:
        missing.append('The network has no capsules.')
    if not model['has_decoder']:
        missing.append('The network has no decoder: it reconstructs nothing.')
    return section(
        'Model details',
        definitions(
            {
                'network': model['network'],
                'weights': f'{model["parameters"]:,}',
                'looks at': f'{shape} pixels, framing {model["framing"]}',
                'scores': f'{len(model["class_names"]):,}, {scores}, from 0 to 1',
                'trained': model['trained'] and f'{model["trained"]} (UTC)',
                'fingerprint': model['fingerprint'],
                'code': model['code'],
                'TFX': model['tfx'],
                'TensorFlow': model['tensorflow'],
                'found by the Tuner': tuned,
            }
        ),
        paragraphs(*missing),
        element(
            'details',
            element('summary', 'How the network is built'),
            definitions({name: value(each) for name, each in sorted(model['config'].items())}),
        ),
        element(
            'details',
            element('summary', 'All settings'),
            paragraphs(
                'In force when the card was written. What the Tuner found wins over them.'
                if tuned
                else 'In force when the card was written.',
                class_='soft',
            ),
            definitions(dict(sorted(facts['settings'].items()))),
        ),
    )


def _intended_use(facts: Facts) -> Html:
    use = facts['use']
    return section(
        'Intended use',
        bullets(use['intended']),
        element('h3', 'Not intended'),
        bullets(use['not_intended']),
    )


def _factors(facts: Facts) -> Html:
    measured_by = ['the class of a picture']
    if facts['evaluation']['kinds']:
        measured_by.append('the kind of picture')
    return section(
        'Factors and metrics',
        bullets(
            [
                f'Figures are given for all test images and by {" and by ".join(measured_by)}.',
                'The accuracy is the fraction of pictures whose class has the highest score.',
                'An interval of 95% is that of Wilson 1927. It says how exact a fraction is that '
                'was counted on this number of images.',
                'Who wrote or took the pictures, and with what, is not in the data, and so it is '
                'no factor here.',
            ]
        ),
    )


def _data(facts: Facts) -> Html:
    data, names = facts['data'], facts['model']['class_names']
    is_last = facts['settings'].get('PICK') == 'last'
    purposes = {
        'train': 'the network learns from them',
        'eval': 'they set the guard' if is_last else 'they choose the epoch and set the guard',
        'test': 'only the Evaluator and this card look at them',
    }
    splits = data['splits']
    if len(names) <= MOST_CLASSES:
        rows = [
            [name, *(f'{each["by_class"][label]:,}' for each in splits.values())]
            for label, name in enumerate(names)
        ]
        note = ''
    else:
        first = next(iter(splits.values()))['by_class']
        order = sorted(range(len(names)), key=lambda label: (first[label], label))
        rows = [
            [names[label], *(f'{each["by_class"][label]:,}' for each in splits.values())]
            for label in [*order[:_EXTREMES], *order[-_EXTREMES:]]
        ]
        note = f'The {_EXTREMES} rarest and the {_EXTREMES} most frequent of {len(names):,} classes'
    totals = ['all', *(f'{each["images"]:,}' for each in splits.values())]
    left_out = data['left_out']
    return section(
        'Training and evaluation data',
        definitions(
            {
                'dataset': data['dataset'],
                'version': data['version'],
                'fingerprint': data['fingerprint'],
                'left out': f'{left_out:,} images that cannot be decoded' if left_out else '',
                **{
                    name: f'{each["images"]:,} images: {purposes.get(name, "")}'
                    for name, each in splits.items()
                },
            }
        ),
        element('h3', 'Images of each class'),
        table(['class', *splits], [totals, *rows], note),
    )


def _reproduce(facts: Facts) -> Html:
    data, model = facts['data'], facts['model']
    return section(
        'How to reproduce it',
        element('pre', element('code', facts['reproduce'])),
        paragraphs(
            f'The data must have the fingerprint {data["fingerprint"]}, and the code of the '
            f'training the version {model["code"]}; make lineage shows both for a pushed version. '
            'The same weights to the last bit need DETERMINISTIC=yes and the same machine; '
            'otherwise the figures differ as those of another seed do.'
        ),
    )
