#!/bin/sh
# Runs a command where container runtimes of others work, too:   sh tests/foreign/enter.sh COMMAND ...
#
# A mount namespace of its own. On a machine with cgroup v1 controllers and cgroup2 beside them, the cgroup2 one is
# unmounted in it: crun refuses that "hybrid" layout. The machine's own mounts stay as they are. So does its null device:
# crun gives what it has as stdin to the container's user, and a case of runc's looks whose /dev/null is.
# A process namespace of its own: what a test leaves running ends with the command. Its first process is a shell that
# waits, and so reaps, since a machine's own pid 1 may be slow to.
set -eu
[ "$(id -u)" = 0 ] || {
    echo "enter: needs root" >&2
    exit 1
}
exec unshare --mount --propagation private --pid --fork --kill-child sh -c '
    mount -t proc proc /proc
    place=$(mktemp -d)
    mount -t tmpfs -o mode=755 none "$place"
    mknod -m 666 "$place/null" c 1 3
    mount --bind "$place/null" /dev/null
    umount -l "$place"
    rmdir "$place"
    # An empty file system in its place: crun makes directories there, which would stay, out of sight.
    umount /sys/fs/cgroup/unified 2>/dev/null && mount -t tmpfs none /sys/fs/cgroup/unified
    status=0
    "$@" || status=$?
    # A frozen process outlives its own killing: the namespace would never end.
    for process in /proc/[0-9]*; do
        group=$(sed -n "s/^[0-9]*:freezer://p" "$process/cgroup" 2>/dev/null)
        [ "${group:-/}" = / ] || echo THAWED >"/sys/fs/cgroup/freezer$group/freezer.state"
    done
    exit "$status"
' sh "$@"
