"""Compiles the operations in C++ for this TensorFlow: `python -m capsmodel.networks.native_build`.

Set-up runs it, and so does the image's build. The library lies beside TensorFlow, in the same
environment, since it is compiled for this TensorFlow and no other; the sources stay as they are.
Its name holds a hash of all that it is made from, so what is out of date is never loaded. It holds
the operations for each instruction set and picks one when it runs: another machine may use it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import multiprocessing.pool
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).parent
_HEADER = 'native.h'
_SOURCES = ('native_routing.cc', 'native_winograd.cc')

# Products and sums may be joined, and nothing else may change: NaN has to stay NaN.
_OPTIONS = ('-O3', '-std=c++17', '-fPIC', '-fvisibility=hidden', '-ffp-contract=fast')
KERNEL_OPTIONS = (*_OPTIONS, '-fno-math-errno', '-fno-trapping-math')
_AVX512 = ('-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mprefer-vector-width=512')
# The options of each instruction set.
INSTRUCTIONS = {'plain': ['-DLANES=4', '-DINSTRUCTIONS=plain']}
if platform.machine() in ('x86_64', 'AMD64'):
    INSTRUCTIONS['avx2'] = ['-DLANES=8', '-DINSTRUCTIONS=avx2', '-mavx2', '-mfma']
    INSTRUCTIONS['avx512'] = ['-DLANES=16', '-DINSTRUCTIONS=avx512', '-mfma', *_AVX512]


def library(folder: str | os.PathLike | None = None) -> pathlib.Path:
    """Where the library lies once it is compiled.

    Args:
        folder: The folder of TensorFlow's package; None: the one that this Python imports.
    """
    files = [_HEADER, *_SOURCES, pathlib.Path(__file__).name]
    made_from = [FOLDER.joinpath(name).read_bytes() for name in files]
    made_from += [importlib.metadata.version('tensorflow').encode(), platform.machine().encode()]
    name = hashlib.sha256(b'\0'.join(made_from)).hexdigest()[:16]
    if folder is None:
        specification = importlib.util.find_spec('tensorflow')
        assert specification is not None
        assert specification.origin is not None
        folder = pathlib.Path(specification.origin).parents[1]
    return pathlib.Path(folder, 'capsnet_native', f'operations-{name}.so')


def compiler() -> list[str]:
    """The C++ compiler of this machine, CXX if that is set; empty if it has no compiler."""
    named = shlex.split(os.environ.get('CXX', ''))
    return named or [found for found in map(shutil.which, ('c++', 'g++', 'clang++')) if found][:1]


def build(target: pathlib.Path) -> None:
    """Compiles the library.

    Raises:
        OSError, subprocess.CalledProcessError: The compiler does not start or fails.
    """
    import tensorflow as tf

    # TensorFlow's headers take longer than our sources: each object has all of these.
    source = ''.join(f'#include "{name}"\n' for name in _SOURCES).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        # TensorFlow's part does no work of its own, and takes as long to compile as the rest.
        options = {'tensorflow': [*_OPTIONS, '-O1', '-w', *tf.sysconfig.get_compile_flags()]}
        options |= {name: [*KERNEL_OPTIONS, *own] for name, own in INSTRUCTIONS.items()}
        objects = {f'{folder}/{name}.o': own for name, own in options.items()}

        def compile_object(path: str) -> None:
            command = [*compiler(), '-x', 'c++', '-', f'-I{FOLDER}', '-c', '-o', path]
            subprocess.run([*command, *objects[path]], input=source, check=True)

        with multiprocessing.pool.ThreadPool() as pool:
            pool.map(compile_object, objects, chunksize=1)
        whole = f'{folder}/{target.name}'
        link = [*compiler(), '-shared', '-o', whole, *objects]
        subprocess.run([*link, *tf.sysconfig.get_link_flags()], check=True)
        for older in target.parent.glob('*.so'):
            older.unlink()
        os.replace(whole, target)


def main() -> None:
    """Compiles the library where it is missing, and says in one line why it cannot."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--folder', help="the folder of packages; default: TensorFlow's")
    target = library(parser.parse_args().folder)
    if target.exists():
        return
    if not compiler():
        sys.exit('there is no C++ compiler')
    try:
        build(target)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f'the C++ compiler fails: {error}')


if __name__ == '__main__':
    main()
