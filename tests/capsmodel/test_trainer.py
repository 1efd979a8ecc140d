"""From which model a training with WARM_START begins."""

import pytest
from small_training import NETWORK

from capsmodel import model_facts, trainer

NAMES = [str(label) for label in range(10)]


@pytest.mark.parametrize(
    ('names', 'starts_from_it'), [(NAMES, True), (None, True), ([*NAMES[:9], 'nine'], False)]
)
def test_a_model_of_other_classes_is_no_start(tmp_path, capsys, names, starts_from_it):
    """One that was exported before models had their classes' names is."""
    if names:
        model_facts.write(str(tmp_path), names, NETWORK)
    assert model_facts.read(str(tmp_path)).get('class_names') == names
    assert trainer._base_model(str(tmp_path), NAMES, 'capsnet') == (
        str(tmp_path) if starts_from_it else ''
    )
    assert capsys.readouterr().err == (
        '  training starts from the last blessed model\n'
        if starts_from_it
        else '  training starts from random weights: the last blessed model has other classes\n'
    )


def test_without_a_blessed_model_there_is_no_start(capsys):
    assert trainer._base_model(None, NAMES, 'capsnet') == ''
    assert capsys.readouterr().err == (
        '  training starts from random weights: no model is blessed\n'
    )


def test_another_network_is_no_start(tmp_path, capsys):
    model_facts.write(str(tmp_path), NAMES, NETWORK)
    assert trainer._base_model(str(tmp_path), NAMES, 'mlp') == ''
    assert capsys.readouterr().err == (
        '  training starts from random weights: the last blessed model is another network\n'
    )
