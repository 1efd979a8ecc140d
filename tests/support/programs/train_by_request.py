"""Trains by a request, as the Trainer does, and prints why it ended if it failed.

python train_by_request.py REQUEST.json [STRATEGY]
"""

import sys

import start_tensorflow

start_tensorflow.load()

from capsmodel.training import launcher  # noqa: E402
from capsmodel.training.errors import TrainingError  # noqa: E402
from capsmodel.training.request import TrainingRequest  # noqa: E402

_, path, *strategy = sys.argv
try:
    launcher.train(TrainingRequest.read(path), *strategy)
except TrainingError as error:
    print('ended:', error)
