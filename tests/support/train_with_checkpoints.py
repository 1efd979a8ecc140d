"""Trains on a few digits with a checkpoint every ten steps: LOG_DIR CHECKPOINTS EPOCHS."""

import dataclasses
import sys

import transformed_examples
from small_training import NETWORK, TRAINING

from capsmodel.training import loop
from capsmodel.training.checkpoints import Checkpoints

_, log_dir, folder, epochs = sys.argv
settings = dataclasses.replace(
    TRAINING, epochs=int(epochs), batch_size=5, learning_rate=1e-3, learning_rate_decay=1.0
)
checkpoints = Checkpoints(folder, every_steps=10)
checkpoints.folder.mkdir(exist_ok=True)
learned, judged = transformed_examples.digits()
loop.train(NETWORK, settings, learned, judged, log_dir, checkpoints=checkpoints)
