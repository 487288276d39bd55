#!/bin/sh
# Inside the virtual machine of tests/vm/run.sh, as root: makes room to write and runs the tests.
#
# The root file system is the machine's own by 9p, read-only, and overlay takes neither 9p nor another overlay as its
# upper layer: /tmp becomes a tmpfs.
set -u
cd "$(dirname -- "$0")/../.."
project=$PWD

port() { # the device behind a virtio port that virtme-ng made
    for made in /sys/class/virtio-ports/*; do
        [ "$(cat "$made/name")" != "$1" ] || printf '/dev/%s\n' "${made##*/}"
    done
}

imported() { # what run.sh packed, from memory and in its place
    mkdir -p /run/imported
    mount -t tmpfs -o size=800m,mode=755 imported /run/imported || return
    tar -xf "$ASYNCRT_VM_ARCHIVE" -C /run/imported 2>/dev/null || return
    for place in $ASYNCRT_VM_IMPORTED; do
        mount --bind "/run/imported$place" "$place" || return
    done
}

prepare() {
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || {
        printf 'vm: /sys/fs/cgroup is no cgroup2\n' >&2
        return 1
    }
    mkdir /run/project
    mount --bind "$project" /run/project
    mount -t tmpfs -o size=1g,mode=1777 tmp /tmp || return 1
    case $project in
    /tmp/*)
        mkdir -p "$project"
        mount --move /run/project "$project" || return 1
        ;;
    esac
    [ -z "${ASYNCRT_VM_ARCHIVE:-}" ] || imported || return 1
    cd "$project" || return 1
    modprobe -q loop || true # the machine's only disk, for limits on one
    truncate -s 1M /tmp/disk && losetup -f /tmp/disk || true
    printf -- '-- kernel %s: %s\n' "$(uname -r)" "$*"
}

run() {
    prepare pytest "$@" || return
    .venv/bin/python -m pytest -p no:cacheprovider "$@"
}

# What CI runs: limits, what is told of them, and the command line, in a few interpreters.
lane() {
    prepare lane || return
    .venv/bin/python -m tests.vm.limits || return
    sh tests/vm/smoke.sh
}

# systemd's driver with a systemd that is one.
scoped() {
    prepare systemd || return
    sh tests/vm/systemd.sh
}

# Longer, by hand, a file a boot (emulated: `ASYNCRT_VM_SECONDS=1500 just test-v2 -q -m root FILE`): all of
# tests/conformance (half an hour; test_root_and_mounts alone takes six minutes), tests/shimd/command/test_exec.py and
# test_hooks.py (six each). Not of this lane: the callers (podman and dockerd need a root that can be written), tests/foreign.
# A quarter of an hour of emulation: every limit, mount and namespace, then the command line, whose every start costs seconds.
selection() {
    run -q -m "root and not slow" tests/shimd/container tests/shimd/linux tests/shimd/server/test_run.py \
        tests/shimd/server/test_execs.py tests/asyncrt/supervisor/test_cgroups.py tests/asyncrt/supervisor/test_contract.py || return
    sh tests/vm/smoke.sh
}

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 ASYNCRT_TEST_SLOWNESS=10
deed=run
[ $# != 0 ] || deed=selection
[ "$*" != lane ] || deed=lane
[ "$*" != systemd ] || deed=scoped
if [ -e /dev/virtio-ports/virtme.ret ]; then # udev is there: virtme-ng connected the streams and takes the status
    "$deed" "$@"
else
    "$deed" "$@" >"$(port virtme.stdout)" 2>&1
    echo "$?" >"$(port virtme.ret)"
fi
