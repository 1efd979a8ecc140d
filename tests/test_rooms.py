"""The house has an order: imports go one way, and nothing in it is too large to be read."""

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
    'components': {'components.datasets'},
    'components.datasets': {'start_tensorflow'},
    'serving': {'serving.http', 'serving.requests', 'serving.models', 'start_tensorflow'},
    'serving.http': {'serving.requests', 'serving.models'},
    'serving.requests': {'serving.models'},
    'serving.models': {'start_tensorflow'},
    'pipeline': {'capsmodel', 'components', 'start_tensorflow'},
    'kubeflow': {'pipeline', 'capsmodel', 'components', 'start_tensorflow'},
    'benchmarks': {'pipeline', 'capsmodel', 'serving', 'start_tensorflow'},
}
