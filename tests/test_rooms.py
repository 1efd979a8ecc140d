"""The house has an order: imports go one way, and nothing in it is too large to be read."""

# Modules on a room's top floor that its inner rooms use.
_HELPERS = ('components.locks', 'components.temporary_files')
_BASE = (
    *('serving.errors', 'serving.console', 'serving.processors', 'serving.metrics'),
    'serving.config_files',
)
# Each room, and the rooms whose modules it may import besides its own. A module is in the room with
# the longest name that it begins with.
_MAY_IMPORT = {
    'start_tensorflow': set(),
    'capsmodel': {
        *('capsmodel.settings', 'capsmodel.data', 'capsmodel.networks', 'capsmodel.summaries'),
        'capsmodel.training',
    },
    'capsmodel.settings': set(),
    'capsmodel.data': set(),
    'capsmodel.networks': {'capsmodel.settings'},
    'capsmodel.signatures': {'capsmodel.data', 'capsmodel.networks'},
    'capsmodel.summaries': {'capsmodel.data', 'capsmodel.networks'},
    'capsmodel.training': {
        *('capsmodel.settings', 'capsmodel.data', 'capsmodel.networks', 'capsmodel.summaries'),
        'start_tensorflow',
    },
    'components': {'components.datasets', *_HELPERS},
    'components.datasets': {'start_tensorflow', *_HELPERS},
    **{module: set() for module in _HELPERS},
    'serving': {'serving.web', 'serving.requests', 'serving.models', 'start_tensorflow', *_BASE},
    'serving.web': {'serving.requests', 'serving.models', *_BASE},
    'serving.requests': {'serving.models', *_BASE},
    'serving.models': {'start_tensorflow', *_BASE},
    **{module: set(_BASE) for module in _BASE},
    'serving.config': set(),
    'serving.config_files': {'serving.config', *_BASE},
    'pipeline': {'capsmodel', 'components', 'start_tensorflow'},
    'kubeflow': {'pipeline', 'capsmodel', 'components', 'start_tensorflow'},
    'benchmarks': {'pipeline', 'capsmodel', 'serving', 'start_tensorflow'},
}
