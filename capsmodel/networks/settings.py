"""The settings of the networks: groups that several of them share, and what makes each network.

`networks.table` says which network has which of them.
"""

from __future__ import annotations

import dataclasses

from pydantic.dataclasses import dataclass

from capsmodel.networks.choices import (
    GRADIENT_MODES,
    INITIAL_VALUES,
    PRECISIONS,
    PRIMARY_ALGORITHMS,
    ROUTINGS,
    STEMS,
    exported_routing,
)
from capsmodel.settings import STRICT, Numbers, Settings, setting


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CommonSettings(Settings):
    """What every network has."""

    precision: str = setting(
        'float32',
        'mixed_bfloat16: products in half the bits, for GPUs from Ampere on; no gain on most CPUs. '
        'Weights, capsules, routing, scores and losses stay float32',
        choices=PRECISIONS,
    )
    standardize: bool = setting(
        False,
        'bring the values of each image to mean 0 and variance 1 (section 7 of the paper)',
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoderSettings(Settings):
    """The decoder, which reconstructs the image from a capsule."""

    decoder: bool = setting(True, 'reconstruct the image, as a regularizer')
    decoder_units: Numbers = setting((512, 1024), 'units of the hidden decoder layers')


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RoutingSettings(Settings):
    """Routing in rounds."""

    routing_iterations: int = setting(3, 'rounds of routing', at_least=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CapsNetSettings(RoutingSettings, DecoderSettings):
    """What `capsnet` has. The defaults make that of Sabour, Frosst, Hinton 2017, section 4."""

    conv1_filters: int = setting(256, 'channels of the first convolution', at_least=1)
    primary_channels: int = setting(32, 'channels of primary capsules', at_least=1)
    primary_dim: int = setting(8, 'numbers in a primary capsule', at_least=1)
    digit_dim: int = setting(16, 'numbers in a digit capsule', at_least=1)
    routing_gradient: str = setting(
        'all',
        'iterations through which the gradient flows: all, or only the last',
        choices=GRADIENT_MODES,
    )
    routing_algorithm: str = setting(
        'auto',
        'how routing is computed in training: these give the same to rounding; auto takes '
        'native, an operation in C++, on a CPU where it is compiled, else matmul; fused is for '
        'GPUs: XLA counts a quarter of the memory traffic, but took over four minutes to compile '
        "it for an H200; reference is the paper's procedure as written there, which takes more "
        'memory',
        choices=ROUTINGS,
    )
    primary_algorithm: str = setting(
        'auto',
        'how the convolution of the primary capsules is computed: the same to rounding; auto takes '
        'winograd on a CPU from 16 images on, in training with transforms in C++ where those are '
        'compiled',
        choices=PRIMARY_ALGORITHMS,
    )
    none_of_the_above: bool = setting(
        False,
        "one more logit, always 0, in routing's softmax: a capsule that agrees with no class keeps "
        'its output to itself (section 7 of the paper)',
    )
    digit_bias: bool = setting(
        False,
        'add a bias to the sums that become the digit capsules, in each round, as the program of '
        "the paper's authors does; the paper's equations have none",
    )
    initial_values: str = setting(
        'default',
        "the first weights; authors: as in the program of the paper's authors, weights from a "
        'normal distribution cut off at two standard deviations, which are 0.05 for the first '
        'convolution and 0.1 for all other layers, and biases of 0.1. A stem keeps the default',
        choices=INITIAL_VALUES,
    )
    stem: str = setting(
        'auto',
        'strided 3x3 convolutions before the first convolution, each of which halves the image; '
        'auto: as many as bring each side to at most 40 pixels, so that there are at most 12x12 '
        'positions of primary capsules',
        choices=STEMS,
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MatrixCapsNetSettings(RoutingSettings):
    """What `matrix_capsnet` has."""

    routing_sharpness: float = setting(
        0.0625,
        "how sharply EM routing tells parents apart: the exponent of their densities at a child's "
        "vote; 1 is the paper's procedure, with which training stayed at chance here",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CnnSettings(Settings):
    """What `cnn` and `cnn_large_kernels` have."""

    cnn_width: float = setting(
        1.0,
        'factor on the channels of the convolutions of cnn and cnn_large_kernels',
        at_least=0.001,
        at_most=100,
    )


@dataclass(frozen=True, config=STRICT)
class NetworkConfig(CommonSettings):
    """All that makes a network: its name, its settings, the shape of its images, and the classes.

    A network with settings of its own extends this class by the groups that it has.

    Attributes:
        image_height: Rows of an image, in pixels.
        image_width: Columns of an image, in pixels.
        image_channels: 1 for grey images, 3 for colour.
        crop: Rows and columns of what the network sees of such an image: in training any part of
            it, else the middle; 0: all of it.
        num_classes: Number of classes, at least 2.
        network: The name of the network in `networks.table`.

    Raises:
        pydantic.ValidationError: A value makes no sense. It is a ValueError.
    """

    sizes = 'IMAGE_HEIGHT and IMAGE_WIDTH'  # what makes it large, for messages
    image_height: int
    image_width: int
    num_classes: int
    image_channels: int = setting(1, 'grey or red, green and blue', choices=(1, 3))
    crop: int = setting(0, 'pixels', at_least=0)
    network: str = setting('', 'its name in the table')

    @property
    def image_shape(self) -> tuple[int, ...]:
        """What the network sees: (height, width) of grey images, (height, width, 3) of colour."""
        size = (self.crop, self.crop) if self.crop else (self.image_height, self.image_width)
        return size if self.image_channels == 1 else (*size, self.image_channels)

    @property
    def uncropped_shape(self) -> tuple[int, ...]:
        """The shape of Transform's images."""
        return (self.image_height, self.image_width, *self.image_shape[2:])

    @property
    def has_decoder(self) -> bool:
        """Whether the network reconstructs images."""
        return isinstance(self, DecoderSettings) and self.decoder

    @property
    def is_trained(self) -> bool:
        """Whether the network learns from images; else its weights come from trained ones."""
        return True

    @property
    def exported(self) -> NetworkConfig:
        """The network that an exported model has instead of this one, with the same variables."""
        return self

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f'num_classes must be at least 2, not {self.num_classes}')
        if min(self.image_height, self.image_width) < 1:
            raise ValueError(
                f'images of {self.image_height}x{self.image_width} pixels are too small'
            )
        if self.crop > min(self.image_height, self.image_width):
            raise ValueError(
                f'images of {self.image_height}x{self.image_width} pixels are too small for crops '
                f'of {self.crop}x{self.crop}'
            )


@dataclass(frozen=True, config=STRICT)
class CnnConfig(CnnSettings, NetworkConfig):
    """All that makes a `cnn`."""

    sizes = f'{NetworkConfig.sizes}, CNN_WIDTH'
    network: str = setting('cnn', 'its name in the table', choices=('cnn',))


@dataclass(frozen=True, config=STRICT)
class CnnLargeKernelsConfig(CnnSettings, NetworkConfig):
    """All that makes a `cnn_large_kernels`."""

    sizes = CnnConfig.sizes
    network: str = setting(
        'cnn_large_kernels', 'its name in the table', choices=('cnn_large_kernels',)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        height, width = self.image_shape[:2]
        if min(height, width) < 17:
            raise ValueError(
                f'images of {height}x{width} pixels are too small: two kernels of size 9 need at '
                'least 17x17'
            )


# In pixels; with a larger side a stem is due. 41 pixels become 21, which give 3x3 positions: with a
# smaller bound there would be fewer, and 40 pixels give 12x12, four times those of MNIST.
_LONGEST_WITHOUT_STEM = 40


@dataclass(frozen=True, config=STRICT)
class CapsNetConfig(CapsNetSettings, NetworkConfig):
    """All that makes a CapsNet: NetworkConfig, its settings, and fixed sizes.

    Attributes:
        conv1_kernel_size: Kernel size of the first convolution, which has stride 1 and ReLU.
        primary_kernel_size: Kernel size of the convolution that makes primary capsules.
        primary_stride: Its stride; 2 gives the paper's 6x6 grid on 28x28 images.
    """

    sizes = f'{NetworkConfig.sizes}, CONV1_FILTERS, PRIMARY_CHANNELS'
    network: str = setting('capsnet', 'its name in the table', choices=('capsnet',))
    conv1_kernel_size: int = setting(9, 'pixels', at_least=1)
    primary_kernel_size: int = setting(9, 'positions', at_least=1)
    primary_stride: int = setting(2, 'positions', at_least=1)

    @property
    def exported(self) -> CapsNetConfig:
        routing = exported_routing(self.routing_algorithm)
        return dataclasses.replace(self, routing_algorithm=routing)

    @property
    def stem_strides(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns by which each convolution of the stem steps; empty: no stem."""
        if self.stem != 'auto':
            return ((2, 2),) * (0 if self.stem == 'none' else int(self.stem))
        strides, size = [], self.image_shape[:2]
        while max(size) > _LONGEST_WITHOUT_STEM:
            rows, columns = (1 + (side > _LONGEST_WITHOUT_STEM) for side in size)
            strides.append((rows, columns))
            size = (-(-size[0] // rows), -(-size[1] // columns))
        return tuple(strides)

    @property
    def conv1_size(self) -> tuple[int, int]:
        """Rows and columns that the first convolution reads."""
        rows, columns = self.image_shape[:2]
        for down, right in self.stem_strides:
            rows, columns = -(-rows // down), -(-columns // right)
        return rows, columns

    def __post_init__(self) -> None:
        super().__post_init__()
        smallest = self.conv1_kernel_size + self.primary_kernel_size - 1
        if min(self.conv1_size) < smallest:
            height, width = self.image_shape[:2]
            rows, columns = self.conv1_size
            halved = f', {rows}x{columns} behind the stem,' if self.stem_strides else ''
            raise ValueError(
                f'images of {height}x{width} pixels{halved} are too small: kernels of size '
                f'{self.conv1_kernel_size} and {self.primary_kernel_size} need at least '
                f'{smallest}x{smallest}'
            )


@dataclass(frozen=True, config=STRICT)
class EfficientCapsNetConfig(DecoderSettings, NetworkConfig):
    """All that makes an EfficientCapsNet: NetworkConfig and the decoder. Its sizes are fixed."""

    network: str = setting(
        'efficient_capsnet', 'its name in the table', choices=('efficient_capsnet',)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_smallest(self, 11)


@dataclass(frozen=True, config=STRICT)
class MatrixCapsNetConfig(MatrixCapsNetSettings, NetworkConfig):
    """All that makes a MatrixCapsNet: NetworkConfig and its settings. Its sizes are fixed."""

    network: str = setting('matrix_capsnet', 'its name in the table', choices=('matrix_capsnet',))

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_smallest(self, 17)


def _check_smallest(config: NetworkConfig, side: int) -> None:
    """Raises ValueError if images leave no position behind the layers, which need `side` pixels."""
    height, width = config.image_shape[:2]
    if min(height, width) < side:
        raise ValueError(
            f'images of {height}x{width} pixels are too small: {config.network} needs at least '
            f'{side}x{side}'
        )
