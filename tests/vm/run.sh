#!/bin/sh
# The tests on cgroup v2 and Debian's own kernel, in a virtual machine:   sh tests/vm/run.sh [arguments of pytest]
#
#     sh tests/vm/run.sh lane         what CI runs: limits, their events, the command line (docs/cgroups.md)
#     sh tests/vm/run.sh systemd      an engine whose scope a real systemd made (needs Debian's systemd and dbus-daemon)
#
# Boots the kernel that linux-image-amd64 depends on (6.1 on Debian 12: no overlay `lowerdir+`, no layers as fds) by plain
# emulation, on this machine's root file system (read-only; what is written stays in the guest's memory), and runs a
# selection of the root tests there (tests/vm/inside.sh), or what the arguments select. The exit status is pytest's.
# Needs an x86_64 Debian with qemu-system-x86, kmod and file; the kernel and virtme-ng (from PyPI) go into the cache.
#   ASYNCRT_VM_CACHE     where they are kept (default ~/.cache/asyncrt-vm)
#   ASYNCRT_VM_KERNEL    another package of a kernel, with 9p and overlay as modules or built in
#   ASYNCRT_VM_KVM       1: use /dev/kvm (default: emulate, which works everywhere)
#   ASYNCRT_VM_SECONDS   how long it may take, the boot included (default 1500)
#   PIP_*                handed on, e.g. PIP_INDEX_URL
set -eu
cd "$(dirname -- "$0")/../.."
cache=${ASYNCRT_VM_CACHE:-${HOME:?}/.cache/asyncrt-vm}
seconds=${ASYNCRT_VM_SECONDS:-1500}
virtme=1.42 # inside.sh knows the names of its ports

die() {
    printf 'vm: %s\n' "$*" >&2
    exit 1
}

quoted() {
    printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"
}

[ "$(uname -m)" = x86_64 ] || die "only x86_64 has a lane so far (this is $(uname -m))"
missing=
command -v qemu-system-x86_64 >/dev/null || missing="$missing qemu-system-x86"
PATH=$PATH:/usr/sbin:/sbin command -v depmod >/dev/null || missing="$missing kmod"
command -v file >/dev/null || command -v strings >/dev/null || missing="$missing file"
[ -z "$missing" ] || die "missing:$missing (apt-get install --no-install-recommends$missing)"
sh setup.sh dev
.venv/bin/python -m compileall -q asyncrt shimd tests # the guest cannot write here, and compiles slowly
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
# What every command of a test imports: the guest takes it into memory in one go, since by 9p it asks for each file.
stdlib=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
archive=$(mktemp "$cache/imported.XXXXXX")
status=$(mktemp)
trap 'rm -f -- "$status" "$archive"' EXIT
imported="$stdlib $PWD/asyncrt $PWD/shimd $PWD/tests $PWD/.venv/lib"
# shellcheck disable=SC2086
tar -cPf "$archive" --exclude="$stdlib/test" --exclude="$stdlib/site-packages" --exclude='*/mypy*' --exclude='*/ruff*' $imported

if [ "$(cat "$cache/virtme/version" 2>/dev/null)" != "$virtme" ]; then
    printf 'vm: installing virtme-ng %s into %s\n' "$virtme" "$cache" >&2
    .venv/bin/python -m venv --clear "$cache/virtme" || die "could not make $cache/virtme"
    "$cache/virtme/bin/python" -m pip install -qq --disable-pip-version-check "virtme-ng==$virtme" ||
        die "pip could not install virtme-ng $virtme (is a package index reachable?)"
    printf '%s\n' "$virtme" >"$cache/virtme/version"
fi

kernel=${ASYNCRT_VM_KERNEL:-}
if [ -z "$kernel" ]; then
    command -v apt-cache >/dev/null || die "apt is missing: this lane needs a Debian"
    kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
    [ -n "$kernel" ] || die "apt knows no linux-image-amd64 (apt-get update)"
fi
if [ ! -e "$cache/$kernel/made" ]; then
    printf 'vm: fetching %s into %s\n' "$kernel" "$cache" >&2
    rm -rf -- "${cache:?}/$kernel"
    mkdir "$cache/$kernel"
    (
        cd "$cache/$kernel"
        apt-get -qq -o APT::Sandbox::User=root download "$kernel" || die "apt-get could not download $kernel (apt-get update)"
        dpkg-deb -x "$kernel"_*.deb .
        rm -- "$kernel"_*.deb
        touch made
    )
fi
image=$(ls "$cache/$kernel"/boot/vmlinuz-*)

emulate=--disable-kvm
[ "${ASYNCRT_VM_KVM:-}" != 1 ] || emulate=
inside="ASYNCRT_VM_ARCHIVE=$(quoted "$archive") ASYNCRT_VM_IMPORTED=$(quoted "$imported") sh $(quoted "$PWD/tests/vm/inside.sh")" # virtme-ng wants one string, for a shell
for word in "$@"; do
    inside="$inside $(quoted "$word")"
done
printf -- '-- %s, at most %s s\n' "${image##*/}" "$seconds"
# By way of a pipe: qemu opens what it is given as stdout anew, and would cut a file to nothing.
{
    # shellcheck disable=SC2086
    PATH=$cache/virtme/bin:$PATH:/usr/sbin:/sbin timeout "$seconds" \
        vng -r "$image" $emulate --cpus 2 --memory 2G --user root -- "$inside" </dev/null && echo 0 >"$status" || echo "$?" >"$status"
} 2>&1 | cat
result=$(cat "$status")
case $result in
0) ;;
124) die "FAILED: it took longer than $seconds s" ;;
255) die "FAILED: the machine did not boot, or went without a word (vng -v -r $image shows why)" ;;
*) printf 'vm: FAILED (pytest exit status %s)\n' "$result" >&2 ;;
esac
exit "$result"
