"""Ends a run of the pipeline in some way: VAR HOW HEADING."""

import contextlib
import logging as python_logging
import os
import signal
import sys
import types

from absl import logging

from components.gate import BaselineMissing, GateRefused
from pipeline import configs, console

_ENDS = {
    'refused': GateRefused('The model is rejected: too short.'),
    'without a baseline': BaselineMissing('The model is rejected: too short.'),
    'failed': ValueError('no such\nthing'),
    'interrupted': KeyboardInterrupt(),
    'stopped': AttributeError('what a library makes of an interrupted import'),
    'told': ValueError('and the signal comes while this is written to the log'),
    'well': None,
}


class _SignalAtTheEnd(python_logging.Handler):
    def emit(self, record):
        if record.msg == 'The run ends here.':
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()


# Takes seconds to load, and has no part in this.
sys.modules['tensorflow'] = types.ModuleType('tensorflow')
_, var, how, heading = sys.argv
config = configs.from_preset('tiny', var=var)
with (
    console.exit_on_error(config),
    console.node_lines(config, nodes=2, heading=heading),
):
    logging.info('Component %s is running.', 'Trainer')
    logging.info('a detail of TFX')
    if how == 'stopped':
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
    if how == 'told':
        python_logging.getLogger('pipeline').addHandler(_SignalAtTheEnd())
    if error := _ENDS[how]:
        raise error
