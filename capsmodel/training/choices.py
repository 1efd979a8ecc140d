"""The settings of a training that take one of a few names; this module imports no TensorFlow."""

LEARNING_RATE_SCALINGS = ('none', 'linear', 'sqrt')
STRATEGIES = ('auto', 'default', 'mirrored', 'multi_worker')
