"""The operations in C++ as a whole: what there is without them, and what the sanitizers say."""

import pathlib
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from project_paths import PROGRAMS

from capsmodel.networks import (
    native_build,
    native_library,
    native_routing,
    native_winograd,
    winograd,
)
from capsmodel.networks.routing import routing_by_agreement

# What the program takes: sizes of one vector and more, of one block and more, and empty ones.
WORK = [
    ('routing', 17, 37, 10, 8, 16),
    ('routing', 1, 1, 2, 1, 1),
    ('routing', 33, 19, 7, 5, 27),
    ('routing', 16, 16, 2, 9, 3),
    ('routing', 0, 4, 3, 2, 4),
    ('transform', 6, 10, 6, 10, 20_000),
    ('transform', 13, 4, 5, 2, 2063),
    ('transform', 10, 5, 10, 5, 17),
    ('transform', 4, 6, 6, 12, 1100),
    ('transform', 1, 1, 12, 1, 1),
    ('transform', 2, 3, 4, 5, 0),
]


def test_without_the_library_all_is_tensorflows(monkeypatch):
    rng = np.random.default_rng(0)
    u, kernel = (np.float32(rng.normal(size=size)) for size in ((2, 5, 2), (5, 3, 2, 4)))
    numbers = rng.normal(size=(2, 3)), rng.normal(size=(4, 5)), tf.ones([3, 5, 2])
    weights = tf.constant(rng.normal(size=(3, 3, 2, 5)), tf.float32)
    monkeypatch.setattr(native_build, 'library', lambda: pathlib.Path('nowhere', 'library.so'))
    native_library.operations.cache_clear()
    try:
        assert native_library.why_not().startswith('it is not compiled: `make setup` does')
        with pytest.raises(RuntimeError, match='it is not compiled'):
            native_routing.native_routing(u, kernel, 3)
        with pytest.raises(RuntimeError, match='it is not compiled'):
            native_winograd.native_transform(*numbers)
        np.testing.assert_array_equal(
            native_routing.fastest_routing(u, kernel, 3), routing_by_agreement(u, kernel, 3)
        )
        size, transformed = (9, 11), winograd.transform_kernel(weights, (9, 11), 2)
        phases = tf.ones([*winograd.phase_size(size, 3, 2), 4, 8])
        np.testing.assert_array_equal(
            native_winograd.conv2d_of_phases(phases, weights, size, 2),
            winograd.conv2d_of_phases(phases, transformed, size, 3, 2),
        )
    finally:
        native_library.operations.cache_clear()


def test_the_library_is_another_one_when_a_source_changes(monkeypatch, tmp_path):
    names = ['native.h', 'native_routing.cc', 'native_winograd.cc', 'native_build.py']
    for name in names:
        tmp_path.joinpath(name).write_bytes(native_build.FOLDER.joinpath(name).read_bytes())
    before = {native_build.library('packages')}
    monkeypatch.setattr(native_build, 'FOLDER', tmp_path)
    assert {native_build.library('packages')} == before
    for name in names:
        with tmp_path.joinpath(name).open('a') as file:
            file.write('// edited')
        before.add(native_build.library('packages'))
    assert len(before) == 1 + len(names)


@pytest.mark.slow
@pytest.mark.parametrize('name', native_build.INSTRUCTIONS)
def test_no_access_is_out_of_bounds_and_no_thread_changes_a_result(name, tmp_path):
    """The sanitizers of the compiler, in a program without TensorFlow."""
    program = tmp_path / 'program'
    options = [*native_build.INSTRUCTIONS[name], '-std=c++17', '-O1', '-g', '-pthread']
    options += ['-fsanitize=address,undefined', '-fno-sanitize-recover=all']
    options += [f'-I{native_build.FOLDER}']
    source = PROGRAMS / 'sanitized_native.cc'
    compiled = subprocess.run(
        [*native_build.compiler(), *options, source, '-o', program],
        capture_output=True,
        text=True,
        check=False,
    )
    if 'cannot find' in compiled.stderr:
        pytest.skip('the compiler has no sanitizers')
    assert compiled.returncode == 0, compiled.stderr
    for work in WORK:
        command = [program, name, *map(str, work)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        if done.stdout == 'no such instructions\n':
            pytest.skip(f'this machine has no {name}')
        assert done.stdout == 'done\n'
