"""What PRESET stands for: other defaults, and how much data.

Those of a single network stand beside it, in capsmodel/networks/table.py.
"""

from __future__ import annotations

from typing import Any

from capsmodel.networks.table import NETWORKS

# What a preset changes in the defaults. One without `network` is for every network, whose entry in
# NETWORKS may change more.
PRESETS: dict[str, dict[str, Any]] = {
    # The same code with networks and data small enough for tests: about ten seconds of training.
    'tiny': {
        'epochs': 6,
        'batch_size': 50,
        'learning_rate': 4e-3,
        'learning_rate_decay': 0.6,
        'min_accuracy': 0.80,
        'min_class_accuracy': 0.50,
        'min_kind_accuracy': 0.6,
        'min_class_images': 1,
        'max_accuracy_drop': 0.05,
    },
    # One pass over all training images: small batches for many steps, a falling learning rate.
    'quick': {'epochs': 1, 'batch_size': 64, 'learning_rate_decay': 0.3},
    # The paper's network, by the schedule that had the lowest loss of those in docs/results.md.
    'paper': {
        'network': 'capsnet',
        'epochs': 50,
        'learning_rate_schedule': 'flat_linear',
        'learning_rate_floor': 0.01,
        'min_accuracy': 0.99,
        'min_class_accuracy': 0.98,
    },
    # A folder of one's own pictures, which may be few: as many steps for 500 as for 50,000.
    'folder': {
        'epochs': 0,
        'batch_size': 16,
        'learning_rate_decay': 0.1,
        'max_bad_images': 0.05,
        'min_accuracy': 0.9,
        'min_class_accuracy': 0.8,
        # About twice the standard error of 95% on 90 images.
        'max_accuracy_drop': 0.05,
        'min_test_images': 50,
    },
    # Section 7 of the paper: 10.6% error on CIFAR-10 with seven such networks together; it does not
    # say what one of them reached. Of others' rebuilt ones, one alone came to 27 to 30%.
    'cifar10': {
        'network': 'capsnet',
        'dataset': 'cifar10',
        'augmentation': 'crop:24,flip,brightness:63,contrast:0.8',
        'standardize': True,
        'none_of_the_above': True,
        'primary_channels': 64,
        'decoder': False,
        'epochs': 50,
        'learning_rate_decay': 0.96,
        'min_accuracy': 0.65,
        'min_class_accuracy': 0.4,
    },
    # Section 7 as well: 4.3% error on SVHN. A pixel has three values here, so that the sum of their
    # errors is about four times that of MNIST, and gets a quarter of the weight.
    'svhn': {
        'network': 'capsnet',
        'dataset': 'svhn_cropped',
        'conv1_filters': 64,
        'primary_channels': 16,
        'primary_dim': 6,
        'digit_dim': 8,
        'reconstruction_weight': 0.000125,
        'epochs': 50,
        'learning_rate_decay': 0.96,
        'min_accuracy': 0.93,
        'min_class_accuracy': 0.88,
    },
    # The recipe of Mazzia, Salvetti, Chiaberge 2021, as far as there are settings for it: theirs
    # draws rotations from a normal distribution that ends at 30 degrees, shifts a digit up to the
    # edge, and erases squares of 4x4 pixels.
    'efficient': {
        'network': 'efficient_capsnet',
        'epochs': 150,
        'batch_size': 16,
        'learning_rate': 5e-4,
        'learning_rate_decay': 0.97,
        'learning_rate_floor': 0.1,
        'augmentation': 'shift:4,rotate:30,scale:0.25',
        'min_accuracy': 0.99,
        'min_class_accuracy': 0.98,
    },
}


def of_preset(preset: str, network: str) -> dict[str, Any]:
    """What a preset changes in the defaults for a network; empty where there is no such preset."""
    of_network = NETWORKS[network].presets.get(preset, {}) if network in NETWORKS else {}
    return {**PRESETS.get(preset, {}), **of_network}


# The longer side, in pixels, that the median picture of IMAGES is scaled down to. A decoder for
# larger ones would have more weights than the rest of the network.
LARGEST_OF_FOLDER = 48
# The smallest side: what the kernels of 9 and 9 positions need.
SMALLEST_OF_FOLDER = 17

# The most images, by preset, of the slices that no setting names.
MOST_IMAGES = {'tiny': {'train': 2000, 'eval': 500, 'test': 1000}}

# The most test images, by preset, that are drawn again as people's pictures: 20 of each kind.
MOST_PICTURES = {'tiny': 240}
