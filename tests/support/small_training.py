"""A network and settings with which a training on genuine digits takes seconds."""

from capsmodel.networks.settings import CapsNetConfig
from capsmodel.training.settings import TrainingConfig

NETWORK = CapsNetConfig(
    28, 28, 10, conv1_filters=8, primary_channels=2, digit_dim=4, decoder_units=(16,)
)
TRAINING = TrainingConfig(
    epochs=2,
    batch_size=50,
    learning_rate=3e-3,
    learning_rate_decay=0.5,
    reconstruction_weight=0.0005,
    augmentation='shift:1',
    seed=7,
)
