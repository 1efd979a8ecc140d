import tempfile

import pytest
from tfx.utils import dependency_utils

from pipeline.beam_options import beam_options

_WORKERS = '--direct_running_mode=multi_processing --direct_num_workers=2'


@pytest.mark.parametrize(
    'beam_args',
    [
        '--runner=FnApiRunner',
        f'{_WORKERS} --runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner',
        '--runner=FnApiRunner --worker_harness_container_image=mine',
    ],
)
def test_tfx_does_not_pack_itself_for_workers_of_this_machine(beam_args, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    options = beam_options(beam_args)
    assert options[: len(beam_args.split())] == beam_args.split()
    assert dependency_utils.make_beam_dependency_flags(options) == options
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'beam_args',
    ['--runner=PortableRunner --job_endpoint=flink:8099', '--runner=DataflowRunner', '--x=y'],
)
def test_options_of_other_runners_stay(beam_args):
    assert beam_options(beam_args) == beam_args.split()
