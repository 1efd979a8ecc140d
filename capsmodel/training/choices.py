"""The names that settings of the training may have."""

LEARNING_RATE_SCALINGS = ('none', 'linear', 'sqrt')
STRATEGIES = ('auto', 'default', 'mirrored', 'multi_worker')
