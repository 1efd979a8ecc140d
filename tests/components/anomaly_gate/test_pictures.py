import numpy as np

from components.anomaly_gate import pictures
from components.anomaly_gate.pictures import Split


def _split(digests, contrasts=(0.3,)):
    ids = np.array([b'image %d' % digest for digest in digests], object)
    return Split(np.zeros(len(digests), int), ids, np.array(digests), np.array(contrasts))


def refusals(splits, judging=('eval', 'test')):
    return pictures.refusals(splits, judging)


def test_other_pictures_with_contrast_pass():
    splits = {'train': _split(range(100)), 'eval': _split(range(100, 120))}
    assert list(refusals(splits)) == []


def test_half_may_be_blank_and_no_more():
    half = _split([1, 2], [0.0, 0.3])
    assert list(refusals({'train': half})) == []
    more = _split([1, 2, 3], [0.0, 0.009, 0.3])
    assert list(refusals({'train': half, 'test': more._replace(digests=np.array([7, 8, 9]))})) == [
        'Most pictures are blank, with all pixels alike: 67% of test. There is nothing to learn '
        'from them: look at the files, and at what wrote them.'
    ]


def test_one_of_a_hundred_test_images_may_be_in_train_and_no_more():
    train = _split(range(1000))
    splits = {'train': train, 'eval': _split(range(2000, 2100)), 'test': _split(range(999, 1099))}
    assert list(refusals(splits)) == []
    assert list(refusals({**splits, 'test': _split(range(998, 1098))})) == [
        '2 of the 100 test images are also in train, and at most 1% may be: image 998, image 999. '
        'On these, the accuracy tells what the network remembers, not what it has learned. Take '
        'them out of one of the two splits.'
    ]


def test_only_splits_that_judge_must_not_share_pictures_with_train():
    splits = {'train': _split(range(100)), 'eval': _split(range(50)), 'test': _split([100])}
    assert list(refusals(splits, judging=('test',))) == []
    (refusal,) = refusals(splits)
    assert refusal.startswith('50 of the 50 eval images are also in train')


def test_examples_without_contrast_are_not_blank():
    assert list(refusals({'train': _split([1, 2], [])})) == []
