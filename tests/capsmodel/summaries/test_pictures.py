"""What is chosen to be shown of a network, and that there is a picture of any network."""

import numpy as np
import pytest
import transformed_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import NETWORK

from capsmodel.data import dataset
from capsmodel.networks import capsnet
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.summaries import pictures


@pytest.fixture(scope='module')
def digits():
    return transformed_examples.digits()[1]


@pytest.fixture(scope='module')
def model():
    return capsnet.CapsNet(NETWORK)


def test_one_number_of_the_labels_capsule_is_changed_at_a_time(model, digits):
    images, labels = digits.images[:2], np.array([4, 8])
    drawings = pictures.perturbed(model, images, labels)
    assert drawings.shape == (2, 4, 11, 28, 28)
    np.testing.assert_allclose(pictures.OFFSETS, np.linspace(-0.25, 0.25, 11), atol=1e-9)
    capsules = model(images).numpy()
    unchanged = model.reconstruct(capsules, labels)
    for dim in range(4):
        np.testing.assert_allclose(drawings[:, dim, 5], unchanged, atol=1e-5)
    capsules[1, 8, 2] += 0.2
    changed = model.reconstruct(capsules, labels)[1]
    np.testing.assert_allclose(drawings[1, 2, 9], changed, atol=1e-5)
    assert np.abs(changed - unchanged[1]).max() > 1e-4


def test_worst_mistakes_come_first():
    lengths = np.array([[0.9, 0.1], [0.2, 0.9], [0.6, 0.5], [0.4, 0.5]])
    worst = pictures.worst(np.array([0, 0, 1, 1]), lengths)
    assert list(worst) == [1, 2, 3, 0]


def test_names_are_written_in_letters_that_the_font_has():
    names = ['cat', 'dög', 'čeština', '猫', 'a\tb', 'T-shirt/top', 'an exceedingly long name']
    assert pictures.readable(names) == [
        *('cat', 'dog', 'cestina', '3', '4', 'T-shirt/top', 'an exceedingly …')
    ]


_SIZES = st.sampled_from((17, 18, 28, 60))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    classes=st.one_of(st.integers(2, 70), st.integers(71, 1000)),
    size=st.tuples(_SIZES, _SIZES),
    digit_dim=st.sampled_from((1, 2, 40)),
    count=st.integers(1, 20),
    decoder=st.booleans(),
    channels=st.sampled_from((1, 3)),
    seed=st.integers(0, 99),
)
def test_there_is_every_picture_of_any_network(
    classes, size, digit_dim, count, decoder, channels, seed
):
    config = CapsNetConfig(
        image_height=size[0],
        image_width=size[1],
        image_channels=channels,
        num_classes=classes,
        conv1_filters=2,
        primary_channels=1,
        primary_dim=2,
        digit_dim=digit_dim,
        routing_iterations=1,
        decoder=decoder,
        decoder_units=(2,),
    )
    random = np.random.default_rng(seed)
    labeled = dataset.LabeledImages(
        random.integers(0, 256, (count, *config.image_shape), dtype=np.uint8),
        random.integers(0, classes, count),  # most classes are without an image
    )
    lengths = random.random((count, classes)).astype(np.float32)
    names_of_classes = pictures.readable([f'{label} of them' * 3 for label in range(classes)])
    names = set()
    for picture in pictures.of(config):
        figure = picture.draw(capsnet.CapsNet(config), labeled, lengths, names_of_classes)
        assert figure.dtype == np.uint8
        assert figure.size < 2e7
        assert figure.min() < figure.max()
        names.add(picture.name)
    without = {'confusion matrix', 'reliability', 'worst mistakes'}
    more = {'inputs over reconstructions', 'capsule dimensions'}
    assert names == without | (more if decoder else set())
