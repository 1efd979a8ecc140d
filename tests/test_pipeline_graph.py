"""The picture of the pipeline's graph."""

import itertools
import re

import pytest
from project_paths import ROOT

from pipeline import configs
from tools import pipeline_graph
from tools.pipeline_graph import Node

_DIAMOND = {
    'top': Node(True, frozenset()),
    'left': Node(False, frozenset({'top'})),
    'right': Node(False, frozenset({'top'})),
    'lower right': Node(False, frozenset({'top', 'right'})),
    'end': Node(True, frozenset({'top', 'left', 'right', 'lower right'})),
}
_BOX = re.compile(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)" rx')
_ARROW = re.compile(r'<path d="M(\d+) (\d+)V\d+C\d+ \d+ \d+ \d+ (\d+) (\d+)"')


def _boxes(drawn):
    """Of each box its text, and x, y, width and height."""
    texts = re.findall(r'<text [^>]*>([^<]*)</text>', drawn)
    return dict(zip(texts, [tuple(map(int, box)) for box in _BOX.findall(drawn)], strict=True))


def _arrows(drawn):
    """From which box each arrow goes to which one."""
    boxes = _boxes(drawn).items()
    for x, y, to_x, to_y in (map(int, ends) for ends in _ARROW.findall(drawn)):
        yield (
            next(text for text, (a, b, w, h) in boxes if (a + w / 2, b + h) == (x, y)),
            next(text for text, (a, b, w, _) in boxes if (a + w / 2, b) == (to_x, to_y)),
        )


def test_arrows_are_what_a_node_needs_and_no_other_needs_for_it():
    drawn = pipeline_graph.drawing(_DIAMOND)
    assert set(_arrows(drawn)) == {
        ('top', 'left'),
        ('top', 'right'),
        ('right', 'lower right'),
        ('left', 'end'),
        ('lower right', 'end'),
    }


def test_no_box_lies_on_another_one_or_on_an_arrow_that_passes():
    boxes = _boxes(pipeline_graph.drawing(_DIAMOND))
    for (x, y, *_), (other_x, other_y, *_) in itertools.combinations(boxes.values(), 2):
        assert (x, y) != (other_x, other_y)
    # The arrow from `left` passes the row of `lower right`.
    assert boxes['left'][0] != boxes['lower right'][0]


@pytest.mark.slow
def test_the_picture_is_that_of_the_pipeline(mnist_dir):
    nodes = pipeline_graph.nodes_of(configs.from_environment({'VAR': str(ROOT / 'var')}))
    assert pipeline_graph.PICTURE.read_text() == pipeline_graph.drawing(nodes)
    assert nodes['Trainer'].is_of_tfx
    assert not nodes['AnomalyGate'].is_of_tfx
