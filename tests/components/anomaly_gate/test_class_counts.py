import numpy as np
from troubles import assert_printed

from components.anomaly_gate import class_counts


def _counts(**splits):
    return {split: np.array(each) for split, each in splits.items()}


def _refusals(names=('cat', 'dog'), min_test_images=0, min_class_images=0, **splits):
    return list(class_counts.refusals(_counts(**splits), names, min_test_images, min_class_images))


def test_labels_are_counted_by_split():
    counts = class_counts.count({'train': np.array([2, 0, 2, 7, -1]), 'test': np.array([], int)}, 3)
    assert {split: each.tolist() for split, each in counts.items()} == {
        'train': [1, 0, 2],
        'test': [0, 0, 0],
    }


def test_few_classes_are_all_in_the_table():
    counts = _counts(train=[1200, 7], test=[3, 20])
    assert class_counts.table(counts, ['a cat', 'dog']) == (
        '         images  a cat  dog\n  train   1,207  1,200    7\n  test       23      3   20'
    )


def test_of_many_classes_there_are_the_extremes():
    names = [f'class {label}' for label in range(100)]
    counts = _counts(train=[5, *[10] * 97, 1000, 6])
    assert class_counts.table(counts, names) == (
        '  train  1,981 images of 100 classes, from 5 (class 0) to 1,000 (class 98)'
    )


def test_enough_images_pass():
    assert _refusals(train=[10, 12], test=[10, 11], min_test_images=21, min_class_images=10) == []


def test_too_few_test_images_are_refused():
    assert _refusals(train=[9, 9], test=[7, 8], min_test_images=1000) == [
        'No model can be judged by the test images: there are 15, and MIN_TEST_IMAGES asks for at '
        'least 1,000. Give more of them, or set a lower bound.'
    ]


def test_class_without_any_image_is_a_gap_whatever_the_bound():
    assert _refusals(('cat', 'dog', 'owl'), train=[9, 0, 9], test=[7, 0, 8]) == [
        'The labels have a gap: no split has an image of class dog. A model can neither learn such '
        'a class nor be judged by it, so leave the class out of the dataset, or add images.'
    ]


def test_class_without_images_in_a_split_is_refused_whatever_the_bound():
    assert _refusals(train=[9, 9], eval=[0, 9], test=[9, 0]) == [
        'A class has no images in a split: eval has none of class cat; test '
        'has none of class dog. Each split needs images of every class: train to '
        'learn from, eval to pick the best epoch, and test to judge the model.'
    ]


def test_few_images_of_a_class_are_refused():
    refused = _refusals(train=[9, 10], eval=[10, 10], test=[10, 3], min_class_images=10)
    assert_printed('few pictures', *refused)
    assert refused == [
        'A class has too few images in a split: train has 9 of class cat; test '
        'has 3 of class dog; and MIN_CLASS_IMAGES asks for at least 10. Add images of '
        'these classes, or set a lower bound.'
    ]


def test_first_ten_of_many_classes_are_named():
    (sentence,) = _refusals(list(map(str, range(1000))), test=[*[0] * 7, 1, *[0] * 991, 1])
    assert 'no split has an image of class 0, 1, 2, 3, 4, 5, 6, 8, 9, 10 and 988 more. ' in sentence
