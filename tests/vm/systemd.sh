#!/bin/sh
# A systemd as process 1 of namespaces of its own, which owns the machine's cgroups; and in it scope.sh.
#
#     sh tests/vm/systemd.sh       (inside the virtual machine, as root; cgroup v2). The exit status is scope.sh's.
#
# As process 1 of the virtual machine it would want a root that can be written, and start what a whole machine has.
set -eu
cd "$(dirname -- "$0")/../.."
project=$PWD
systemd=/lib/systemd/systemd
[ -x "$systemd" ] || {
    printf 'systemd: %s is missing (apt-get install systemd dbus-daemon)\n' "$systemd" >&2
    exit 1
}
said=$(mktemp /tmp/asyncrt-systemd.XXXXXX)
units=$(mktemp -d /tmp/asyncrt-units.XXXXXX)
trap 'rm -rf -- "$said" "$units"' EXIT

# The bus without what a whole machine would start before it.
cat >"$units/dbus.socket" <<'UNIT'
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
UNIT
cat >"$units/dbus.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
UNIT
cat >"$units/proof.service" <<UNIT
[Unit]
DefaultDependencies=no
Requires=dbus.service
After=dbus.service
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
TimeoutStartSec=600
ExecStart=/bin/sh $project/tests/vm/scope.sh
StandardOutput=append:$said
StandardError=append:$said
UNIT

status=0
unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc sh -c '
    mount -t tmpfs -o mode=755 run /run
    mkdir -p /run/systemd/system
    cp "$1"/* /run/systemd/system/
    exec env -i container=asyncrt PATH="$PATH" "$0" --system --unit=proof.service --log-target=console --show-status=no
' "$systemd" "$units" </dev/null || status=$?
cat "$said"
[ "$status" = 0 ] || printf 'systemd: FAILED (%s)\n' "$status" >&2
exit "$status"
