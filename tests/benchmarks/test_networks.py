"""The benchmark of all networks: what it counts."""

import pytest
import tensorflow as tf

from benchmarks import networks


@pytest.mark.parametrize(
    ('function', 'shapes', 'expected'),
    [
        (lambda x, w: tf.nn.conv2d(x, w, 2, 'VALID'), ([1, 7, 9, 3], [3, 3, 3, 5]), 12 * 5 * 27),
        (
            lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], 'VALID'),
            ([1, 5, 5, 4], [5, 5, 4, 1]),
            4 * 25,
        ),
        (lambda x, w: tf.matmul(x, w, transpose_a=True), ([6, 2], [6, 3]), 2 * 3 * 6),
        (tf.matmul, ([4, 2, 6], [4, 6, 3]), 4 * 2 * 3 * 6),
        (lambda x, w: tf.einsum('nic,ijcd->nijd', x, w), ([1, 7, 8], [7, 3, 8, 4]), 7 * 3 * 8 * 4),
        (lambda x, w: x + w, ([3], [3]), 0),
    ],
)
def test_products_of_operations_by_hand(function, shapes, expected):
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    graph = tf.function(function, autograph=False).get_concrete_function(*specs).graph
    assert sum(map(networks.products, graph.get_operations())) == expected


@pytest.mark.parametrize(
    ('name', 'parameters', 'with_decoder', 'millions'),
    [
        ('capsnet', 6_804_224, 8_215_568, 203),
        ('mlp', 238_510, None, 0.238),
        ('matrix_capsnet', 68_572, None, 12.9),
        ('cnn_large_kernels', 5_332_234, None, 199.4),
        pytest.param('cnn', 35_445_522, None, 1964, marks=pytest.mark.slow),
    ],
)
def test_parameters_and_multiply_adds_are_the_published_ones(
    name, parameters, with_decoder, millions
):
    row = networks.facts(name, batch=1)
    assert (row['parameters'], row['with_decoder']) == (parameters, with_decoder)
    assert row['million_multiply_adds'] == pytest.approx(millions, rel=0.01)
