"""Memory: what is available, under which limit ever, and what an evaluation takes."""

import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest
import training_request
import transformed_examples
from project_paths import PROGRAMS, ROOT

from capsmodel.data import dataset
from capsmodel.networks import capsnet_memory, memory
from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.settings import CapsNetConfig

_GB = 2**30


def _machine(root, files):
    """Writes the files that the kernel has, and says what is available there."""
    for path, content in {'proc/meminfo': 'MemAvailable: 8388608 kB\n', **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return memory.available(root)


def _group(folder, limit, used=_GB, given_up=_GB // 4, version=2):
    names = {
        1: ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
        2: ('memory.max', 'memory.current', 'inactive_file'),
    }[version]
    return {
        f'{folder}/{names[0]}': f'{limit}\n',
        f'{folder}/{names[1]}': f'{used}\n',
        f'{folder}/memory.stat': f'active_file 99\n{names[2]} {given_up}\n',
    }


_V1, _V2 = 'sys/fs/cgroup/memory', 'sys/fs/cgroup'
_LINES_V1 = '5:cpu,cpuacct:/x\n4:memory:/docker/ab\n0::/\n'


@pytest.mark.parametrize(
    ('files', 'gigabytes'),
    [
        ({}, 8),
        # A container sees its own group as the root of version 2, and outside of one by its path.
        ({'proc/self/cgroup': '0::/\n', **_group(_V2, 4 * _GB)}, 3.25),
        ({'proc/self/cgroup': '0::/a/b\n', **_group(f'{_V2}/a/b', 3 * _GB)}, 2.25),
        # The limit may be that of a group around it.
        (
            {
                'proc/self/cgroup': '0::/a/b\n',
                **_group(f'{_V2}/a/b', 'max'),
                **_group(f'{_V2}/a', 2 * _GB),
            },
            1.25,
        ),
        ({'proc/self/cgroup': '0::/\n', **_group(_V2, 'max')}, 8),
        ({'proc/self/cgroup': '0::/\n', **_group(_V2, 100 * _GB)}, 8),
        # More is used than is allowed, as when the limit was lowered.
        ({'proc/self/cgroup': '0::/\n', **_group(_V2, _GB, used=2 * _GB)}, 0),
        (
            {
                'proc/self/cgroup': _LINES_V1,
                **_group(f'{_V1}/docker/ab', 5 * _GB, version=1),
            },
            4.25,
        ),
        # A container of version 1 has the path of outside in the file, and its group at the root.
        ({'proc/self/cgroup': _LINES_V1, **_group(_V1, 5 * _GB, version=1)}, 4.25),
        ({'proc/self/cgroup': _LINES_V1, **_group(_V1, 2**63 - 4096, version=1)}, 8),
    ],
)
def test_available_is_the_least_that_the_machine_and_limits_leave(tmp_path, files, gigabytes):
    assert _machine(tmp_path, files) == gigabytes * _GB


def test_a_machine_without_proc_has_its_whole_memory(tmp_path):
    whole = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    assert memory.available(tmp_path) == whole


def test_ulimit_counts(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    status = {'proc/self/status': 'VmSize: 1048576 kB\nVmData: 1 kB\n'}
    resource.setrlimit(resource.RLIMIT_AS, (200 * _GB, hard))
    try:
        assert (
            _machine(tmp_path, {**status, 'proc/meminfo': f'MemAvailable: {_GB} kB'}) == 199 * _GB
        )
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_images_at_once_follow_the_memory_and_the_network(monkeypatch):
    paper = CapsNetConfig(28, 28, 10)

    def at_once(free, config=paper, **how):
        monkeypatch.setattr(memory, 'available', lambda: int(free))
        return memory.images_at_once(CapsNet(config), **how)

    assert at_once(0) == 1
    assert at_once(100 * _GB) == memory.MOST_IMAGES
    assert at_once(100 * _GB, most=8) == 8
    assert 1 < at_once(_GB) < at_once(2 * _GB) < memory.MOST_IMAGES
    assert at_once(2 * _GB, processes=2) == at_once(_GB)
    stored = dataclasses.replace(paper, routing_algorithm='reference')  # stores predictions
    assert 1 < at_once(_GB, stored) < at_once(_GB)
    larger = dataclasses.replace(paper, image_height=64, image_width=64, stem='none')
    assert at_once(4 * _GB, larger) < at_once(4 * _GB) / 5
    exported = [memory.images_at_once_when_exported(CapsNet(each)) for each in (larger, paper)]
    assert exported[0] < exported[1]


def test_a_step_takes_more_with_images_classes_and_pixels():
    def needed(images, side, classes=10, channels=3, **settings):
        config = CapsNetConfig(side, side, classes, image_channels=channels, **settings)
        return capsnet_memory.needed_to_train(config, images, parameters=7_000_000)

    # Measured: 573 MB and, in colour behind a stem of two convolutions, 924 MB.
    assert 550 < needed(128, 28, channels=1) / 2**20 < 900
    assert needed(128, 28) < needed(400, 28) < needed(400, 28, classes=100)
    assert needed(64, 96, stem='none') > 5 * needed(64, 96)
    assert needed(64, 96, decoder=False) < needed(64, 96)
    stored = needed(64, 28, routing_algorithm='reference')
    assert stored > needed(64, 28) + 64 * 4 * 1152 * 10 * 16
    # Below 16 images the kernel of the primary capsules is not transformed.
    assert needed(16, 28) > needed(15, 28) + 100 * 2**20


def test_gpu_memory_is_what_nvidia_smi_says_of_the_visible_ones(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '1,2')
    without = memory.gpu_available()
    program = tmp_path / 'nvidia-smi'
    program.write_text('#!/bin/sh\ncase "$*" in *--id=1,2*) echo 9000; echo 7000;; esac\n')
    program.chmod(0o755)
    assert without != memory.gpu_available() == 7000 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    'arguments',
    [('--case', '28', '10', '400'), ('--train', '--case', '96', '10', '32')],
    ids=['evaluation', 'training step'],
)
def test_the_estimate_is_near_what_is_taken(arguments):
    command = [sys.executable, '-m', 'benchmarks.memory', *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert 0.8 < json.loads(done.stdout.splitlines()[-1])['ratio'] < 2


@pytest.mark.slow
def test_an_evaluation_keeps_to_a_containers_limit_and_a_kill_names_the_settings(tmp_path):
    group = pathlib.Path(f'/sys/fs/cgroup/memory/test-{os.getpid()}')
    try:
        group.mkdir()
        (group / 'memory.limit_in_bytes').write_text(str(1150 * 2**20))
    except OSError as error:
        pytest.skip(f'no control group of version 1 can be made here: {error}')
    noise = np.random.default_rng(0).integers(0, 256, (600, 28, 28), dtype=np.uint8)
    labeled = dataset.LabeledImages(noise, np.arange(600) % 10)
    request = training_request.write(
        tmp_path, network=CapsNetConfig(28, 28, 10), batch_size=4, epochs=1
    )
    transformed_examples.write(tmp_path / 'train.gz', labeled, range(8))
    transformed_examples.write(tmp_path / 'eval.gz', labeled)

    def train(eval_batch_size):
        path = tmp_path / 'request.json'
        dataclasses.replace(request, eval_batch_size=eval_batch_size).write(path)
        command = f'echo $$ >{group}/cgroup.procs; exec "$@"'
        program = PROGRAMS / 'train_by_request.py'
        done = subprocess.run(
            ['sh', '-c', command, 'sh', sys.executable, str(program), str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        assert train(600).startswith(
            'ended: The training process was ended by SIGKILL, as the system does when memory runs '
            'out, while it was evaluating 600 images a step. Lower EVAL_BATCH_SIZE'
        )
        assert train(0) == ''
    finally:
        group.rmdir()
