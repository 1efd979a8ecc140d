#!/bin/sh
# The steps of the Dockerfile that install something, so that a test can run the very same ones.
# Call it in the project's folder as
#
#     install.sh uv FOLDER           uv itself
#     install.sh packages VENV       a virtual environment with the locked packages
#     install.sh cuda FOLDER         the CUDA libraries that TensorFlow asks for
#     install.sh project FOLDER      this project, built by the packages of the environment in
#                                VENV, and its operations in C++ compiled for their TensorFlow
#
# Every download is checked against the hash in a lock. The bytecode depends on the sources alone,
# not on when they were written, so that two builds give the same files.
set -eu

step=$1
target=$2
# Where a package is compiled or run, it is by this Python and no other.
export UV_PYTHON="${UV_PYTHON:-3.10}" UV_PYTHON_DOWNLOADS=never PYC_INVALIDATION_MODE=UNCHECKED_HASH

case $step in
uv)
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
        --no-deps --require-hashes --target "$target" --requirement requirements/uv.txt
    ;;
packages)
    uv venv --quiet --no-project "$target"
    # Some packages come as source only: the lock decides what builds them, too.
    uv pip install --quiet --python "$target/bin/python" --compile-bytecode \
        --no-deps --require-hashes --build-constraints requirements/tfx116.txt \
        --requirement requirements/tfx116.txt
    ;;
cuda)
    uv pip install --quiet --target "$target" \
        --no-deps --require-hashes --only-binary :all: --requirement requirements/cuda.txt
    ;;
project)
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        --root-user-action ignore --no-deps --no-index --no-build-isolation --no-compile \
        --target "$target" .
    # Without bytecode, which would have the time of the sources in it.
    PYTHONPATH="$target" PYTHONDONTWRITEBYTECODE=1 \
        "$VENV/bin/python" -m capsmodel.networks.native_build --folder "$target"
    "$VENV/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$target"
    ;;
*)
    echo "install.sh knows uv, packages, cuda and project, not '$step'" >&2
    exit 2
    ;;
esac
