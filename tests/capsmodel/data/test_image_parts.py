import tensorflow as tf

from capsmodel.data.images import decode_images


def _name(function):
    """That of the Python function which was traced."""
    return function.removeprefix('__inference_').rpartition('_')[0]


def test_a_session_optimizes_what_plain_pictures_do_not_need_when_another_picture_comes():
    graph = (
        tf.function(lambda encoded: decode_images(encoded, 28, 28, 'strokes'), autograph=False)
        .get_concrete_function(tf.TensorSpec([None], tf.string))
        .graph.as_graph_def()
    )
    waiting = {
        _name(function.signature.name)
        for function in graph.library.function
        if function.attr['_noinline'].b and function.attr['_tf_data_function'].b
    }
    assert waiting == {'read', 'examine', '_strokes'}
    # And no other function is called by its name.
    called = {
        _name(node.attr['f'].func.name)
        for function in graph.library.function
        for node in function.node_def
        if 'PartitionedCall' in node.op
    }
    assert called == waiting
