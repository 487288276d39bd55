#!/bin/sh
# Fetches what the foreign suites need into a cache; repeating it is cheap:   sh tests/foreign/prepare.sh runc|crun
#
# The sources come from Debian's source packages, in the version that the machine's release has; nothing of them is part
# of this project. The root file systems that runc's suite wants are made of busybox-static and by debootstrap.
#   FOREIGN_CACHE    where it is kept (default ~/.cache/asyncrt-foreign)
#   FOREIGN_SUITES   the releases to look in (default: this machine's), e.g. "trixie sid" for newer suites
#   FOREIGN_VERSION  the version of the source package (default: the newest of those releases)
#   FOREIGN_MIRROR   the Debian mirror (default: the one that apt uses here)
# Prints the folder of the unpacked sources as its last line.
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
what=${1:-}
cache=${FOREIGN_CACHE:-${HOME:?}/.cache/asyncrt-foreign}

die() {
    printf 'prepare: %s\n' "$*" >&2
    exit 1
}

case $what in
runc) tools="bats jq gawk gcc debootstrap script xz" ;;
crun) tools="gcc script xz" ;;
*) die "which suite, runc or crun?" ;;
esac
missing=
for tool in $tools; do
    PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -z "$missing" ] || die "missing:$missing (apt-get install --no-install-recommends bats jq gawk gcc libc6-dev debootstrap bsdutils xz-utils)"
busybox=
for place in /bin/busybox /usr/bin/busybox; do
    [ ! -x "$place" ] || busybox=$place
done
[ "$what" = crun ] || [ -n "$busybox" ] || die "busybox is missing (apt-get install busybox-static)"

# A list of sources of our own: the machine's may have no deb-src, and is not ours to change.
mirror=${FOREIGN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)}
[ -n "$mirror" ] || die "apt knows no mirror here; say FOREIGN_MIRROR=http://deb.debian.org/debian"
release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-sid}")
mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial" "$cache/packages"
cat >"$cache/apt/sources.sources" <<EOF
Types: deb-src
URIs: $mirror
Suites: ${FOREIGN_SUITES:-$release}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
apt() {
    tool=$1
    shift
    "$tool" -qq -o Dir::State::Lists="$cache/apt/lists" -o Dir::Cache="$cache/apt/cache" \
        -o Dir::Etc::SourceList="$cache/apt/sources.sources" -o Dir::Etc::SourceParts=/dev/null \
        -o APT::Sandbox::User=root "$@"
}

version=${FOREIGN_VERSION:-}
if [ -z "$version" ] || [ ! -e "$cache/$what-$version/made" ]; then
    apt apt-get update || die "apt-get update failed for $mirror"
    [ -n "$version" ] || version=$(apt apt-cache showsrc "$what" | sed -n 's/^Version: //p' | sort -V | tail -n 1)
    [ -n "$version" ] || die "no source package $what in ${FOREIGN_SUITES:-$release}"
fi
tree=$cache/$what-$version
if [ ! -e "$tree/made" ]; then
    printf 'prepare: fetching %s %s\n' "$what" "$version" >&2
    (cd "$cache/packages" && apt apt-get source --download-only "$what=$version") || die "apt-get source failed"
    rm -rf -- "$tree"
    mkdir "$tree"
    orig=$(ls "$cache/packages/${what}_${version%-*}".orig.tar.?z | head -n 1)
    tar -xf "$orig" -C "$tree" --strip-components=1
    touch "$tree/made"
fi

busybox_image() {
    [ ! -e "$cache/busybox.tar" ] || return 0
    root=$cache/busybox
    rm -rf -- "$root"
    # Without proc and sys: cases put links of these names there.
    mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/home" "$root/lib" "$root/root" "$root/usr/bin" \
        "$root/usr/sbin" "$root/sbin" "$root/var/spool/mail" "$root/tmp"
    chmod 1777 "$root/tmp"
    cp "$busybox" "$root/bin/busybox"
    "$busybox" --list | while read -r applet; do
        [ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\ndaemon:x:1:\nnobody:x:65534:\n' >"$root/etc/group"
    tar -cf "$cache/busybox.tar.new" -C "$root" .
    mv "$cache/busybox.tar.new" "$cache/busybox.tar"
}

debian_image() {
    [ ! -e "$cache/debian.tar" ] || return 0
    rm -rf --one-file-system -- "$cache/debian"
    PATH=$PATH:/usr/sbin:/sbin debootstrap --variant=minbase "$release" "$cache/debian" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
        die "debootstrap failed: see $cache/debootstrap.log"
    # A test writes the whole tree for every container: what a package manager keeps is left out.
    rm -rf -- "$cache/debian/var/cache/apt" "$cache/debian/var/lib/apt/lists" "$cache/debian/usr/share/doc" "$cache/debian/usr/share/locale"
    tar -cf "$cache/debian.tar.new" -C "$cache/debian" .
    mv "$cache/debian.tar.new" "$cache/debian.tar"
}

# Python's libmount, without which test_mounts runs nothing. Debian does not package it: it is a few C files of
# util-linux, built where libmount-dev and Python's headers are.
libmount() {
    python=$(readlink -f "${FOREIGN_PYTHON:-$here/../../.venv/bin/python}")
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    if [ -e "$cache/python/libmount/pylibmount.so" ] || [ ! -e /usr/include/libmount ] || [ ! -e "$headers/Python.h" ]; then
        return 0
    fi
    (cd "$cache/packages" && apt apt-get source --download-only util-linux) || return 0
    mkdir -p "$cache/util-linux" "$cache/python/libmount"
    tar -xf "$(ls "$cache"/packages/util-linux_*.orig.tar.?z | tail -n 1)" -C "$cache/util-linux" --strip-components=1
    gcc -O1 -shared -fPIC -D_GNU_SOURCE -I "$headers" -I /usr/include/libmount -I "$cache/util-linux/include" \
        -o "$cache/python/libmount/pylibmount.so" "$cache"/util-linux/libmount/python/*.c -lmount
    cp "$cache/util-linux/libmount/python/__init__.py" "$cache/python/libmount/"
}

if [ "$what" = runc ]; then
    busybox_image
    debian_image
    # The suite's own script would download; ours names what was made here.
    cat >"$tree/tests/integration/get-images.sh" <<EOF
#!/bin/sh
echo "BUSYBOX_IMAGE=$cache/busybox.tar"
echo "DEBIAN_IMAGE=$cache/debian.tar"
EOF
    # The suite's helpers are programs in Go; those of two are written anew beside this script.
    for place in contrib/cmd/recvtty/recvtty tests/cmd/_bin/recvtty; do
        mkdir -p "$tree/${place%/*}"
        gcc -O1 -o "$tree/$place" "$here/recvtty.c"
    done
    python=$(readlink -f "${FOREIGN_PYTHON:-$here/../../.venv/bin/python}")
    for place in contrib/cmd/seccompagent/seccompagent tests/cmd/_bin/seccompagent; do
        mkdir -p "$tree/${place%/*}"
        printf '#!/bin/sh\nexec "%s" -I -S "%s" "$@"\n' "$python" "$here/seccompagent.py" >"$tree/$place"
        chmod 755 "$tree/$place"
    done
else
    # A C program that stands in the bundles; its configuration header is only a wish for large files.
    mkdir -p "$tree/no-config"
    : >"$tree/no-config/config.h"
    [ -e "$tree/tests/init" ] || gcc -O1 -static -I "$tree/no-config" -o "$tree/tests/init" "$tree/tests/init.c"
    libmount
fi
printf '%s\n' "$tree"
