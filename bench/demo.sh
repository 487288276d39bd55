#!/bin/sh
# The main job on a bare machine:   sh bench/demo.sh [COUNT]        (default 300; needs root)
#
# Starts COUNT containers from the machine's own root file system (read-only below a fresh layer), shows them
# coming up, waits for all of them, prints where the time went, and takes everything away again.
set -eu
count=${1:-300}
cd "$(dirname -- "$0")/.."

die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

case $count in
*[!0-9]* | '' | 0*) die "COUNT is a number from 1 on, not '$count'" ;;
esac
[ "$(id -u)" = 0 ] || die "containers need root here: run it as root, or with sudo"

sh setup.sh
work=
# Processes that name our directory; the pattern comes by stdin, or grep would find itself.
running() {
    printf '%s' "$work" | grep -l -a -s -F -f - /proc/[0-9]*/cmdline
}
cleanup() {
    status=$?
    trap - EXIT
    trap '' INT TERM HUP # a second Ctrl-C must not leave half of it behind
    if [ -n "$work" ]; then
        if [ -S "$ASYNCRT_SOCKET" ]; then
            .venv/bin/asyncrt rm --force --all >/dev/null || status=1
            .venv/bin/asyncrt daemon stop >/dev/null || status=1
        fi
        # `rm` walks into a bind mount of the same disk, and a host: container's lower layer is this machine's /.
        if grep -q -F " $work" /proc/self/mountinfo; then
            printf 'demo: mounts are left below %s, so it stays: see /proc/self/mountinfo\n' "$work" >&2
            status=1
        else
            rm -rf --one-file-system -- "$work"
        fi
        tries=20
        while left=$(running) && [ "$tries" -gt 0 ]; do
            tries=$((tries - 1))
            sleep 0.1
        done
        if [ -n "$left" ]; then
            printf 'demo: still running: %s\n' "$(printf '%s' "$left" | tr '\n' ' ')" >&2
            status=1
        fi
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Short, since a unix socket's path has 107 bytes, and with our pid, so that others can tell whose it is.
work=$(mktemp -d "/tmp/asyncrt-$$-XXXXXX")
export ASYNCRT_ROOT="$work/root" ASYNCRT_STATE="$work/state" ASYNCRT_SOCKET="$work/asyncrt.sock"
.venv/bin/asyncrt run --count "$count" host: sleep 3
