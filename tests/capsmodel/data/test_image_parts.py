import tensorflow as tf
from tensorflow.python.ops import control_flow_util_v2

from capsmodel.data.images import decode_images

LOWERED = '_lower_using_switch_merge'


def test_branches_of_the_reading_of_pictures_stay_functions_on_the_cpu():
    graph = (
        tf.function(lambda encoded: decode_images(encoded, 28, 28, 'strokes'))
        .get_concrete_function(tf.TensorSpec([None], tf.string))
        .graph.as_graph_def()
    )
    branching = {
        (function.signature.name, node.name): node
        for function in graph.library.function
        for node in function.node_def
        if node.op in ('If', 'StatelessIf', 'Case', 'StatelessCase', 'While', 'StatelessWhile')
    }
    # tf.map_fn, which calls the function that reads one picture, is a loop of the graph itself.
    assert len(branching) > 5
    assert not [name for name, node in branching.items() if node.attr[LOWERED].b]
    # Without a device, a GPU would be chosen where there is one, except by tf.data.
    devices = {node.device for name, node in branching.items() if 'Dataset_map' not in name[0]}
    assert devices == {'/device:CPU:0'}


def test_functions_beside_are_lowered_as_ever():
    assert control_flow_util_v2._DISABLE_LOWER_USING_SWITCH_MERGE is False
    decode_images(tf.constant([], tf.string), 28, 28, 'whole')
    assert control_flow_util_v2._DISABLE_LOWER_USING_SWITCH_MERGE is False
