#!/bin/sh
# Install the engines that bench/start.py compares asyncrt with, from Debian's own packages (Debian 12).
#
#   sudo bench/install-peers.sh [PACKAGE ...]      with these as well
#
# The packages' services must not come up: the bench starts every daemon itself, with its own root, state and
# socket, and a second dockerd or containerd would only add noise. invoke-rc.d asks /usr/sbin/policy-rc.d and
# takes 101 for "forbidden"; where the machine has no such file one is put there for the length of this script.
set -eu

[ "$(id -u)" = 0 ] || { echo "install-peers: installing packages needs root" >&2; exit 1; }

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends \
    runc crun podman conmon containerd docker.io \
    skopeo umoci buildah busybox-static \
    netavark aardvark-dns catatonit \
    iptables nftables uidmap "$@"

# Where systemd is PID 1 the units are enabled though not started: keep them from the next boot, too.
if [ -d /run/systemd/system ]; then
    systemctl disable --now docker.service docker.socket containerd.service podman.socket 2>/dev/null || true
fi

for tool in runc crun podman conmon containerd ctr dockerd; do
    printf '%-12s %s\n' "$tool" "$(command -v "$tool" || echo missing)"
done
