#!/bin/sh
# The half of tests/bare.sh that runs inside the fresh root, as pid 1 of its namespace.
set -eu
umount -l /.old
rmdir /.old
cd /src

# Nothing of the outer machine's environment but the package index.
for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z_0-9]*\)=.*/\1/p'); do
    case $name in
    PIP_FIND_LINKS | PIP_EXTRA_INDEX_URL) unset "$name" ;; # as a rule files of the outer machine
    PIP_* | BARE_* | TERM) ;;
    *) unset "$name" ;;
    esac
done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
cd /src

counts() {
    printf 'mounts %s, processes %s, cgroups %s, in /tmp: %s\n' "$(wc -l </proc/self/mountinfo)" \
        "$(ls -d /proc/[0-9]* | wc -l)" "$(find /sys/fs/cgroup -name 'asyncrt*' | wc -l)" "$(ls /tmp | wc -l)"
}
step() {
    printf '\n== %s   (before: %s)\n' "$*" "$(counts)"
    begun=$(date +%s)
    status=0
    "$@" || status=$?
    printf '== exit status %s after %s s   (after: %s)\n' "$status" "$(($(date +%s) - begun))" "$(counts)"
    [ "$status" = 0 ] || failed=1
}
failed=0
for each in ${BARE_STEPS:-demo tests}; do
    case $each in
    demo) step sh bench/demo.sh "${BARE_COUNT:-100}" ;;
    tests) step sh tests/run.sh "$@" ;;
    *) printf 'bare: no such step: %s\n' "$each" >&2; failed=1 ;;
    esac
done
exit "$failed"
