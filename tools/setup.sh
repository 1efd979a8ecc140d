#!/usr/bin/env bash
# Makes .venv: Python, the locked packages and the project itself, importable from anywhere.
# Every `make` target calls it first; when nothing has changed it ends at once.
# The packages are those of a line of TFX: 1.21 where it can be installed, else 1.16, or the one that
# TFX_LINE names. .venv keeps its line until TFX_LINE names another.
# `setup.sh bench` and `setup.sh torch` make .venv-bench and .venv-torch, for benchmarks alone, and
# `setup.sh kubeflow-lint` makes .venv-kubeflow-lint, which checks the files in kubeflow/, and
# `setup.sh docs` makes .venv-docs, which builds the site and the study's report.
# `setup.sh lock` rebuilds the locks instead, and with UPGRADE=1 moves them to the newest versions.
set -uo pipefail
# Of another project: with them an interpreter finds the wrong packages, or does not start.
unset PYTHONPATH PYTHONHOME CDPATH
# Where pip installs for a person; index and proxy stay as they are.
unset PIP_PREFIX PIP_TARGET PIP_ROOT PIP_PYTHON
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

tools=.tools
log=$tools/setup.log

fail() {
    echo "Set-up failed: $*" >&2
    exit 1
}

case $PWD in
    *:*) fail "the path of this folder, $PWD, has a colon, which PATH cannot hold: move the folder to" \
        'a path without one.' ;;
esac

# The C library that TFX 1.21's wheels of ML Metadata and Data Validation are built for.
needed_glibc=2.39

# Which line .venv has, since its set-up began.
line_file=.venv/line

# Sets `line` and `why`. Fails where TFX_LINE names one that cannot be installed here.
choose_line() {
    local system glibc
    system=$(uname -sm)
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d ' ' -f 2)
    if [ "$system" = 'Darwin arm64' ]; then
        line=1.21 why='this is macOS on Apple silicon'
    elif is_at_least "${glibc:-0}" "$needed_glibc"; then
        line=1.21 why="glibc $glibc is here, $needed_glibc or newer is needed"
    else
        line=1.16 why="TFX 1.21 needs glibc $needed_glibc, found ${glibc:-no glibc}"
    fi
    if [ "${TFX_LINE:-none} $line $(cat "$line_file" 2>/dev/null)" = 'none 1.21 1.16' ]; then
        line=1.16 why='.venv had it before (TFX_LINE=1.21 changes it)'
    fi
    case "${TFX_LINE:-$line}" in
        "$line") ;;
        1.16) line=1.16 why='TFX_LINE asks for it' ;;
        1.21) fail "TFX_LINE=1.21 cannot be installed here: $why. \`make test-trixie\` tries it in a" \
            'Debian 13 in a folder.' ;;
        *) fail "TFX_LINE=$TFX_LINE is no line of this project: it has 1.16 and 1.21." ;;
    esac
}

# Whether version $1, of two numbers, is $2 or newer.
is_at_least() {
    [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" = "${2%%.*}" ] && [ "${1#*.}" -ge "${2#*.}" ]; }
}

choose_line
case "$line" in # the Pythons that its lock is for, the best one first
    1.16) pythons=(3.10) ;;
    1.21) pythons=(3.13 3.12 3.11) ;;
esac
folder=.venv-${1:-}
lock=requirements/${1:-}.txt
case "${1:-}" in
    bench) gigabytes=2 download='350 MB' ;;
    torch) gigabytes=10 download='3 GB' ;;
    kubeflow-lint) gigabytes=1 download='150 MB' ;;
    docs) gigabytes=1 download='100 MB' ;;
    *) folder=.venv lock=requirements/tfx${line/./}.txt gigabytes=5 download='1 GB' ;;
esac
stamp=$folder/ready

# For a command whose output is in the log.
fail_logged() {
    fail "$* All output is in $log."
}

# For what another user has made, as by `sudo make`.
fail_unwritable() {
    fail "$PWD/$1 cannot be written by $(id -un): remove it, or give that user all that is in it."
}

# What the environment is made from. The folder is part of it: a virtual environment does not survive a move.
fingerprint() {
    cat "$lock" requirements/uv.txt tools/setup.sh | cksum
    pwd -P
}

is_ready() {
    [ -x "$folder/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ]
}

# Prints "3.10 /path/of/the/interpreter" (the file itself: a link in a .venv goes when that does),
# or nothing when it does not start, as pyenv's shims do not for a version that is not selected.
probe() {
    "$1" -c 'import os, sys
print("%d.%d" % sys.version_info[:2], os.path.realpath(sys.executable))' 2>/dev/null
}

# Sets `python` and its `version`; fails if there is no Python for the lock.
find_python() {
    local candidate found folders
    if [ -n "${PYTHON:-}" ]; then
        found=$(probe "$PYTHON") || fail "PYTHON=$PYTHON does not start."
        [ -n "$found" ] || fail "PYTHON=$PYTHON is not a Python interpreter."
        python=${found#* } version=${found%% *}
        [[ " ${pythons[*]} " = *" $version "* ]] ||
            fail "PYTHON=$PYTHON is Python $version, but Python $wanted is needed."
        return 0
    fi
    IFS=: read -r -a folders <<<"$PATH"
    for version in "${pythons[@]}"; do
        for candidate in "${folders[@]/%//python$version}" \
            "${PYENV_ROOT:-/}"/versions/"$version".*/bin/"python$version" \
            "${HOME:-}"/.pyenv/versions/"$version".*/bin/"python$version" \
            "$tools"/python/*/bin/"python$version"; do
            [ -x "$candidate" ] && found=$(probe "$candidate") || continue
            python=${found#* }
            [ "${found%% *}" = "$version" ] && return 0
        done
    done
    version=${pythons[0]}
    return 1
}

is_pinned_uv() {
    [ "uv $("$1" --version 2>/dev/null | cut -d ' ' -f 2)" = \
        "$(sed -n 's/^uv==\([^ ]*\).*/uv \1/p' requirements/uv.txt)" ]
}

# Sets `uv`: the one installed earlier, one of the same version on PATH, or a new one from PyPI.
find_uv() {
    local candidate
    for uv in "$tools/uv/bin/uv" uv; do
        is_pinned_uv "$uv" && return
    done
    uv=$tools/uv/bin/uv
    for candidate in ${python:+"$python"} python3; do
        rm -rf "$tools/uv" "$tools/pip"
        if ! "$candidate" -m pip --version >>"$log" 2>&1; then
            "$candidate" -m venv "$tools/pip" >>"$log" 2>&1 || continue
            candidate=$tools/pip/bin/python
        fi
        # As options, these win over a prefix and a root in a pip.conf.
        "$candidate" -m pip install --target "$tools/uv" --prefix= --root=/ --no-deps \
            --disable-pip-version-check --require-hashes -r requirements/uv.txt >>"$log" 2>&1 ||
            fail_logged "uv could not be installed: $(cause)"
        rm -rf "$tools/pip"
        is_pinned_uv "$uv" && return
    done
    fail_logged "uv cannot be installed without pip or venv: install python3-venv" \
        "(Debian, Ubuntu: apt-get install python3-venv)."
}

# Says why the command failed whose output ends the log.
cause() {
    if grep -qi 'no space left on device' "$log"; then
        echo "the disk is full."
    elif grep -q 'Python\.h: No such file' "$log"; then
        echo "a package is compiled and needs Python's headers: install python$version-dev."
    elif grep -qE "command '.*' failed: No such file|No such file.*'(gcc|g\+\+|cc)'" "$log"; then
        echo "a package is compiled and needs a C++ compiler: install g++."
    elif grep -qiE 'error sending request|failed to fetch|dns error|connection|timed out' "$log"; then
        echo "the package index cannot be reached; check the network and the proxy."
    elif grep -qi 'hash mismatch' "$log"; then
        echo "a downloaded file is not the one that the lock names."
    else
        echo "$(grep -iE 'error|cause' "$log" | tail -n 1)."
    fi
}

check_space() {
    local available
    available=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$available" -ge $((gigabytes * 1024)) ] ||
        fail "$gigabytes GB of free disk space are needed in $PWD, but only" \
            "$((available / 1024)).$((available % 1024 * 10 / 1024)) GB are there."
}

install_all() {
    local seconds=$SECONDS packages=$folder/lib/python$version/site-packages
    [ "$folder" != .venv ] || echo "TFX $line, since $why."
    echo "Setting up Python $version and $(grep -c '^[^ #].*==' "$lock") packages in $folder" \
        "(a minute, and the time to download about $download if it is the first time) ..."
    "$uv" venv --quiet --no-project --python "$python" "$folder" >>"$log" 2>&1 ||
        fail_logged "the virtual environment could not be made: $(cause)"
    # Already now: a set-up that is interrupted goes on with this line.
    [ "$folder" != .venv ] || echo "$line" >"$line_file" || fail_logged "$(cause)"
    # Six packages come as source only: the lock decides what builds them, too.
    "$uv" pip install --python "$folder/bin/python" --no-deps --require-hashes \
        --build-constraints "$lock" -r "$lock" 2>&1 |
        tee -a "$log" |
        sed -nE '/^(Prepared|Installed)|^Downloading .*[0-9]{2}\.[0-9]MiB/ s/^/  /p' ||
        fail_logged "$(cause)"
    # The bytecode is most of the time, but without it and with PYTHONDONTWRITEBYTECODE each process
    # would compile all that it imports.
    echo '  Compiling bytecode ...'
    "$folder/bin/python" tools/bytecode.py "$packages" >>"$log" 2>&1
    # A path file, and last on the path, so that no folder here hides an installed package.
    pwd -P >"$packages/capsnet_tfx.pth" || fail_logged "$(cause)"
    fingerprint >"$stamp" || fail_logged "$(cause)"
    echo "Set up in $((SECONDS - seconds)) s."
}

# What the operations in C++ are made from, and the compiler.
native_fingerprint() {
    cat capsmodel/networks/native*.* "$lock" | cksum
    command -v "${CXX:-c++}" g++ clang++ || true
}

is_native_ready() {
    [ "$folder" != .venv ] || [ ! -e capsmodel/networks/native_build.py ] ||
        [ "$(cat "$folder/native" 2>/dev/null)" = "$(native_fingerprint)" ]
}

# Training goes without it where it cannot be compiled, at a lower speed.
compile_native() {
    local why
    why=$(PYTHONWARNINGS=ignore TF_CPP_MIN_LOG_LEVEL=3 \
        "$folder/bin/python" -m capsmodel.networks.native_build 2>&1 | tee -a "$log" | tail -n 1) ||
        echo "Routing is not compiled for this machine, and training takes longer: $why. All output is" \
            "in $log."
    native_fingerprint >"$folder/native"
}

compile() {
    "$uv" pip compile --quiet --generate-hashes --custom-compile-command 'make lock' "$@" \
        --excludes requirements/excludes.in ${upgrade:+--upgrade} >/dev/null ||
        fail "the lock could not be made."
}

lock_one() {
    local name=$1
    shift
    compile "$@" -o "requirements/$name.txt" "requirements/$name.in"
}

all_is_ready() {
    [ "${1:-}" != lock ] && is_ready && is_native_ready
}

all_is_ready "$@" && exit 0
mkdir -p "$tools" 2>/dev/null && { exec 9>"$tools/lock"; } 2>/dev/null ||
    fail_unwritable "$tools"
if command -v flock >/dev/null && ! flock --nonblock 9; then
    echo "Waiting for another set-up of this folder to end ..."
    flock 9
    all_is_ready "$@" && exit 0
fi
wanted=$(printf ' or %s' "${pythons[@]}")
wanted=${wanted# or }
trap 'echo "Set-up was interrupted: the next call starts it again." >&2; exit 130' INT TERM HUP
{ : >"$log"; } 2>/dev/null || fail_unwritable "$tools"
if [ "${1:-}" != lock ] && is_ready; then
    compile_native
    exit 0
fi

python=
if find_python; then
    find_uv
else
    python=
    find_uv
    echo "There is no Python $wanted that starts: downloading $version into $tools/python ..."
    UV_PYTHON_INSTALL_DIR=$PWD/$tools/python "$uv" python install --no-bin "$version" >>"$log" 2>&1
    find_python ||
        fail_logged "there is no Python $wanted that starts, and none could be downloaded:" \
            "install it ('apt-get install python$version-dev' or 'pyenv install $version')" \
            "or name it with PYTHON=/path/to/python$version."
fi

if [ "${1:-}" = lock ]; then
    upgrade=$([ "${UPGRADE:-0}" = 0 ] || echo yes)
    lock_one tfx116 --python-version 3.10
    lock_one cuda --python-version 3.10
    # For several Pythons, Linux and macOS at once.
    lock_one tfx121 --universal --python-version 3.11
    for name in bench torch kubeflow-lint docs; do
        lock_one "$name" --universal --python-version 3.10
    done
    echo uv | compile --no-annotate -o requirements/uv.txt -
else
    rm -rf "$folder" 2>/dev/null || fail_unwritable "$folder"
    check_space
    install_all
    is_native_ready || compile_native
fi
