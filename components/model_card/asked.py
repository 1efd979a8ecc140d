"""What the exported model answers for test images: the Evaluator keeps no single answer."""

from __future__ import annotations

import base64
import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.model_card.intervals import wilson

# The most test images that are asked about.
MOST_IMAGES = 10_000
# The mistakes that are shown, and the most pairs of classes.
_SHOWN, _PAIRS = 20, 30
# With more classes, the confusion matrix is only its largest entries.
MOST_CLASSES = 30
_BATCH_SIZE = 100

# From integers [n] and float [n, classes] to `images`, `scores` and `hits`, each [bins].
Reliability = Callable[[np.ndarray, np.ndarray], Any]


def ask(
    model_dir: str,
    files: Sequence[str],
    class_names: Sequence[str],
    reliability: Reliability,
    most: int = MOST_IMAGES,
) -> dict[str, Any]:
    """Asks a SavedModel about examples.

    Args:
        model_dir: The SavedModel, with the signatures `examples` and `explain`.
        files: Gzipped TFRecords with tf.Examples that have `image`, `label` and `id`.
        class_names: The name of each class.
        reliability: Puts answers into equal bins by their highest score.
        most: How many images there are at most. If the files have more, those with the smallest
            hashes of their ids are asked about.

    Returns:
        `images` that were asked about, `of_images` in the files, and `correct`; `confusion`, rows
        of counts: of the images of a class, by the class that was answered, or None if there are
        more than MOST_CLASSES classes; `confused`, the most frequent pairs of a class and a wrong
        answer; `reliability` by bin; `mistakes`, the wrong answers with the highest scores, the
        highest first; and `guard`, what `known` says of right and of wrong answers, or None for a
        model without it.
    """
    model = tf.saved_model.load(model_dir)
    ids = [each for batch in _records(files) for each in _parsed(batch, id=tf.string)['id']]
    chosen = set(ids)
    if len(ids) > most:
        chosen = set(heapq.nsmallest(most, ids, key=lambda each: hashlib.sha256(each).digest()))
    columns: dict[str, list[np.ndarray]] = {'label': [], 'answer': [], 'scores': [], 'known': []}
    worst: list[tuple[float, bytes, int, bytes]] = []
    for records in _records(files):
        facts = _parsed(records, id=tf.string, label=tf.int64)
        rows = [row for row, each in enumerate(facts['id']) if each in chosen]
        if not rows:
            continue
        asked = records[rows]
        answers = model.signatures['examples'](examples=tf.constant(asked))
        found = {
            'label': facts['label'][rows],
            'answer': answers['label'].numpy(),
            'scores': answers['scores'].numpy(),
        }
        if 'known' in answers:
            found['known'] = answers['known'].numpy()
        for name, values in found.items():
            columns[name].append(values)
        highest = found['scores'].max(axis=1)
        wrong = np.flatnonzero(found['label'] != found['answer'])
        worst += [
            (-float(highest[i]), facts['id'][rows[i]], int(found['label'][i]), asked[i])
            for i in wrong
        ]
        worst = sorted(worst)[:_SHOWN]
    labels, answered, scores = (np.concatenate(columns[n]) for n in ('label', 'answer', 'scores'))
    known = np.concatenate(columns['known']) if columns['known'] else None
    classes = len(class_names)
    confusion = np.bincount(labels * classes + answered, minlength=classes**2)
    confusion = confusion.reshape(classes, classes)
    return {
        'images': len(labels),
        'of_images': len(ids),
        'correct': int((labels == answered).sum()),
        'confusion': confusion.tolist() if classes <= MOST_CLASSES else None,
        'confused': _confused(confusion, class_names),
        'reliability': _bins(reliability(labels, scores)),
        'mistakes': _mistakes(model, worst, class_names),
        'guard': None if known is None else _guard(labels == answered, known),
    }


def _confused(confusion: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The largest entries beside the diagonal, the largest first."""
    pairs = sorted(
        (-int(confusion[label, answer]), int(label), int(answer))
        for label, answer in zip(*np.nonzero(confusion), strict=True)
        if label != answer
    )
    return [
        {'class': class_names[label], 'answer': class_names[answer], 'images': -images}
        for images, label, answer in pairs[:_PAIRS]
    ]


def _bins(counts: Any) -> list[dict[str, Any]]:
    edges = np.linspace(0, 1, len(counts.images) + 1)
    return [
        {
            'from': round(float(edges[i]), 6),
            'to': round(float(edges[i + 1]), 6),
            'images': int(n),
            'mean_score': float(counts.scores[i] / n),
            'accuracy': float(counts.hits[i] / n),
        }
        for i, n in enumerate(counts.images)
        if n
    ]


def _guard(right: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """What the guard does, from bool [n] and bool [n]."""
    passed = int(known.sum())
    hits = int((right & known).sum())
    return {
        'refused': int((~known).sum()),
        'refused_interval': wilson(int((~known).sum()), len(known)),
        'mistakes': int((~right).sum()),
        'refused_mistakes': int((~right & ~known).sum()),
        'accuracy_of_known': hits / passed if passed else None,
        'accuracy_of_known_interval': wilson(hits, passed) if passed else None,
    }


def _mistakes(
    model: Any, worst: Sequence[tuple[float, bytes, int, bytes]], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """The facts of wrong answers, each with the picture that the network was given, as PNG."""
    if not worst:
        return []
    records = np.array([record for *_, record in worst], object)
    encoded = _parsed(records, image=tf.string)['image']
    answers = model.signatures['explain'](image_bytes=tf.constant(encoded))
    pictures = answers['image'].numpy()
    mistakes = []
    for i, (score, identifier, label, _) in enumerate(worst):
        picture = pictures[i] if pictures[i].ndim == 3 else pictures[i][..., np.newaxis]
        mistakes.append(
            {
                'id': identifier.decode(errors='replace'),
                'class': class_names[label],
                'answer': class_names[int(answers['label'][i])],
                'score': -score,
                'known': bool(answers['known'][i]) if 'known' in answers else None,
                'png': base64.b64encode(tf.io.encode_png(picture).numpy()).decode(),
            }
        )
    return mistakes


def _records(files: Sequence[str]) -> Iterator[np.ndarray]:
    """Batches of serialized examples, object [n]."""
    dataset = tf.data.TFRecordDataset(list(files), compression_type='GZIP').batch(_BATCH_SIZE)
    return dataset.as_numpy_iterator()


def _parsed(records: np.ndarray, **features: tf.DType) -> dict[str, np.ndarray]:
    """Features of one value, [n] each."""
    specification = {name: tf.io.VarLenFeature(dtype) for name, dtype in features.items()}
    parsed = tf.io.parse_example(records, specification)
    return {name: parsed[name].values.numpy() for name in features}
