"""What follows from a dataset's images: size, channels, framing, and the networks of section 7."""

import pytest

from capsmodel import settings
from capsmodel.networks.settings import CapsNetConfig
from components.datasets.info import ImageDatasetInfo
from pipeline import configs, image_settings
from pipeline.configs import SettingError

_COLOURED = ImageDatasetInfo(32, 32, 3, tuple('0123456789'))


def _chosen(preset='quick', info=_COLOURED, **changes):
    return image_settings.choose(configs.from_preset(preset, **changes), info)


@pytest.mark.parametrize(
    ('dataset', 'changes', 'channels', 'framing'),
    [
        ('mnist', {}, 1, 'strokes'),
        ('cifar10', {}, 3, 'whole'),
        ('cifar10', {'channels': 1}, 1, 'whole'),
        ('cifar10', {'framing': 'strokes'}, 1, 'strokes'),
        ('mnist', {'framing': 'whole', 'channels': 3}, 3, 'whole'),
    ],
)
def test_channels_are_the_datasets_and_strokes_are_grey(dataset, changes, channels, framing):
    config = _chosen(**{'dataset': dataset, **changes})
    assert (config.channels, config.framing) == (channels, framing)
    assert (config.image_height, config.image_width) == (32, 32)


def test_grey_datasets_stay_grey():
    assert _chosen(info=ImageDatasetInfo(28, 28, 1, ('a', 'b'))).channels == 1


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'channels': 3}, 'CHANNELS is 3, and FRAMING=strokes reads grey ink'),
        ({'augmentation': 'shift:32'}, 'its shift must be less than the 32 x 32 pixels'),
        ({'augmentation': 'crop:33'}, 'its crop must be at most the 32 x 32 pixels'),
    ],
)
def test_what_does_not_fit_the_images_is_refused(changes, message):
    with pytest.raises(SettingError, match=message):
        _chosen(**changes)


def test_channels_are_1_or_3():
    with pytest.raises(SettingError, match="CHANNELS is '2': it must be one of 0, 1, 3"):
        configs.from_preset('quick', channels='2')


def _network(preset, **changes):
    config = _chosen(preset, **changes)
    return config, settings.filled(
        CapsNetConfig,
        config,
        num_classes=10,
        image_channels=config.channels,
        crop=image_settings.crop(config),
    )


def test_cifar10_is_the_papers():
    config, network = _network('cifar10')
    assert (config.dataset, config.pipeline_name) == ('cifar10', 'capsnet-cifar10')
    assert (network.image_shape, network.uncropped_shape) == ((24, 24, 3), (32, 32, 3))
    assert (network.primary_channels, network.none_of_the_above) == (64, True)
    assert (network.standardize, network.decoder, network.stem_strides) == (True, False, ())


def test_svhn_is_the_papers():
    config, network = _network('svhn')
    assert config.dataset == 'svhn_cropped'
    assert network.image_shape == (32, 32, 3)
    assert (network.conv1_filters, network.primary_channels) == (64, 16)
    assert (network.primary_dim, network.digit_dim) == (6, 8)


def test_the_presets_of_the_paper_take_another_dataset():
    assert configs.from_preset('cifar10', dataset='own').dataset == 'own'
