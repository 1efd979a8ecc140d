#!/usr/bin/env bash
# Runs a command on a copy of the project in a Debian 13 ("trixie"), where TFX 1.21 can be installed:
#
#     tools/trixie.sh make test
#
# All of it is in the folder .trixie: the system, which debootstrap makes on the first call and later
# ones use again, and in that the copy, where the project lies outside; it keeps its .venv and var.
# What lies in .trixie/shared is seen from both sides. DEBIAN_MIRROR names another mirror; `make
# distclean` removes the folder. `tools/trixie.sh --check` only says what is missing for it.
#
# What is mounted is so in a mount namespace of this script's own, and what runs is in a namespace of
# processes: both are gone when the script is, whatever ends it. So nothing outside sees a mount, and
# nothing inside outlives the call.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
folder=$project/.trixie
root=$folder/root
shared=$folder/shared
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# g++ and Python's headers for a package that comes as source only, libgomp1 for another's wheel.
packages=ca-certificates,g++,libgomp1,make,python3,python3-dev,python3-venv
# What tests are skipped without.
for_tests=mariadb-server
contents="Debian 13: $packages $for_tests"
certificates=/etc/ssl/certs/ca-certificates.crt
# Whose signatures debootstrap accepts.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    echo "Debian 13 failed: $*" >&2
    exit 1
}

# Fails if something is missing.
check() {
    [ "$(uname -s)" = Linux ] || fail 'it takes Linux.'
    [ "$(id -u)" = 0 ] || fail 'only root can mount what it needs: use sudo.'
    command -v debootstrap >/dev/null ||
        fail 'there is no debootstrap (Debian, Ubuntu: apt-get install debootstrap).'
    command -v gpgv >/dev/null && [ -e "$keyring" ] || fail "Debian's signatures cannot be checked" \
        'without gpgv and its keys (Debian, Ubuntu: apt-get install gpgv debian-archive-keyring).'
    unshare --mount true 2>/dev/null || fail 'this container may not mount anything:' \
        'docker gives that right with `--privileged`.'
}

# Run outside: sees to what is needed and goes inside the namespaces.
prepare() {
    [ $# != 0 ] || fail 'name a command, such as `make test`.'
    check
    mkdir -p "$shared"
    exec 9>"$folder/lock"
    flock --nonblock 9 || fail "$folder is in use by another call."
    exec unshare --mount --propagation private --pid --fork --kill-child -- \
        "$project/tools/trixie.sh" --inside "$@"
}

install_debian() {
    local seconds=$SECONDS log=$folder/debootstrap.log
    echo "Installing Debian 13 in $root ..."
    rm -rf "$root"
    {
        debootstrap --force-check-gpg --keyring="$keyring" --variant=minbase \
            --include="$packages" trixie "$root" "$mirror" &&
            share_network &&
            inside DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes \
                --no-install-recommends "$for_tests" &&
            inside apt-get clean
    } >"$log" 2>&1 || fail "$(grep -E '^[EW]:' "$log" | tail -n 1 || true) All output is in $log."
    echo "$contents" >"$root/contents"
    echo "Installed in $((SECONDS - seconds)) s."
}

# The project as it lies here, without what .gitignore names; that stays as it is in the copy.
copy_project() {
    local copy=$root$project
    mkdir -p "$copy"
    find "$copy" -mindepth 1 -maxdepth 1 ! -name .venv ! -name '.venv-*' ! -name .tools \
        ! -name .trixie ! -name var -exec rm -rf {} +
    tar --create --directory "$project" --exclude=./.git \
        --exclude-from <(sed 's|^/|./|; s|/$||' "$project/.gitignore") . |
        tar --extract --directory "$copy" --no-same-owner
}

# What the network is reached by outside, it is reached by inside.
share_network() {
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    [ ! -e "$certificates" ] || cp "$certificates" "$root$certificates"
}

# Runs a command, and variables for it, on that system.
inside() {
    # Which variables go inside: the terminal's, the proxy's, CI's.
    local name given=()
    for name in TERM CI http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!name:-}" ] || given+=("$name=${!name}")
    done
    chroot "$root" /usr/bin/env --ignore-environment "${given[@]}" HOME=/root LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        SSL_CERT_FILE="$certificates" REQUESTS_CA_BUNDLE="$certificates" PIP_CERT="$certificates" "$@"
}

run() {
    share_network
    mkdir -p "$root$shared"
    mount --bind "$shared" "$root$shared"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs tmpfs "$root/dev/shm"
    # Not by exec: this shell is the first process in here, which has to see to those that lost theirs.
    inside sh -c 'cd "$0" && exec "$@"' "$project" "$@"
}

if [ "${1:-}" = --inside ]; then
    shift
    [ "$(cat "$root/contents" 2>/dev/null)" = "$contents" ] || install_debian
    copy_project
    run "$@"
elif [ "${1:-}" = --check ]; then
    check
else
    prepare "$@"
fi
