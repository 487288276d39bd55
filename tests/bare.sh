#!/bin/sh
# The README's two commands on a bare machine, found out by running them:   sh tests/bare.sh [arguments of pytest]
#
# Makes a Debian 12 root with Python, venv, pip, gcc and git, copies this working tree (without what git ignores) into
# a fresh copy of it, enters that in namespaces of its own and runs `sh bench/demo.sh` and `sh tests/run.sh` there.
# Needs root, debootstrap and git. Cgroups are the machine's own.
#   BARE_DIR      where the roots are kept (default /tmp/asyncrt-bare; the base is made once)
#   BARE_MIRROR   the Debian mirror (default: debootstrap's)
#   BARE_CA       a file of certificates that the root shall trust (default: $SSL_CERT_FILE)
#   BARE_COUNT    containers of the demo (default 100)
#   BARE_STEPS    what to run, of "demo tests" (default both)
#   PIP_*         handed on, e.g. PIP_INDEX_URL
set -eu
cd "$(dirname -- "$0")/.."
dir=${BARE_DIR:-/tmp/asyncrt-bare}
base=$dir/base
root=$dir/root

die() {
    printf 'bare: %s\n' "$*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "needs root"
command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"

if [ ! -e "$base/made" ]; then
    rm -rf --one-file-system -- "$base"
    mkdir -p "$base"
    # What the README asks for, and nothing else: no procps, no iproute2, no busybox.
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,gcc,git,ca-certificates \
        bookworm "$base" ${BARE_MIRROR:+"$BARE_MIRROR"} >"$dir/debootstrap.log" 2>&1 ||
        die "debootstrap failed: see $dir/debootstrap.log"
    touch "$base/made"
fi

# A copy and not an overlay over the base: overlay file systems do not stack, and the containers inside need one.
rm -rf --one-file-system -- "$root"
cp -a --reflink=auto -- "$base" "$root"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
ca=${BARE_CA:-${SSL_CERT_FILE:-}}
[ -z "$ca" ] || cp -L -- "$ca" "$root/etc/ssl/certs/ca-certificates.crt"
mkdir -p "$root/src" "$root/.old"
git ls-files -z --cached --others --exclude-standard |
    tar --null --verbatim-files-from --files-from=- --ignore-failed-read -cf - | tar -xf - -C "$root/src"

# The root is entered by pivot_root: in a mere chroot the kernel refuses pivot_root and user namespaces to everybody.
# --kill-child and the pid namespace: whatever the two commands leave running ends with this script.
status=0
export root
unshare --mount --pid --fork --kill-child --propagation private sh -eu -c '
    mount --bind "$root" "$root"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    cd "$root"
    mount -t proc proc proc
    pivot_root . .old
    exec chroot . /bin/sh -eu /src/tests/bare-inside.sh "$@"
' sh "$@" || status=$?
[ "$status" = 0 ] || printf 'bare: FAILED (exit status %s); the root is %s\n' "$status" "$root" >&2
exit "$status"
