# What runc.sh and crun.sh share; read by them, with $here set.

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "needs root"
runtime=${RUNTIME:-$here/../../.venv/bin/asyncrt-oci}
runtime=$(command -v "$runtime") || die "there is no runtime ${RUNTIME:-asyncrt-oci} here"
case $runtime in
/*) ;;
*) runtime=$PWD/$runtime ;;
esac
python3=$here/../../.venv/bin/python

results_folder() {
    folder=${FOREIGN_RESULTS:-${FOREIGN_CACHE:-${HOME:?}/.cache/asyncrt-foreign}/results/$1-${runtime##*/}-$(date -u +%Y%m%dT%H%M%S)}
    mkdir -p "$folder"
    (cd "$folder" && pwd)
}

# in_terminal TAP COMMAND SECONDS: the suites look whether they have a terminal, and some of their tests write to it.
# FOREIGN_LOCK is a file to be locked meanwhile, for a machine that others count cgroups on.
in_terminal() {
    printf -- '-- %s\n' "$2" >&2
    status=0
    ${FOREIGN_LOCK:+flock "$FOREIGN_LOCK"} sh "$here/enter.sh" timeout --kill-after=30 "$3" script -qefc "$2" /dev/null </dev/null >"$1" 2>&1 || status=$?
    printf '# exit status %s\n' "$status" >>"$1"
    clear_cgroups "$1"
}

# clear_cgroups TAP: what cases left, by the names that these suites use, is noted and removed, or it fails the next one.
clear_cgroups() {
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
        for top in "$hierarchy"/test* "$hierarchy"/ct[0-9]* "$hierarchy"/frozen "$hierarchy"/runc-cgroups-integration-test; do
            [ -e "$top/cgroup.procs" ] || continue
            printf '# left behind: %s\n' "$top" >>"$1"
            [ ! -e "$top/freezer.state" ] || echo THAWED >"$top/freezer.state"
            find "$top" -depth -type d -exec rmdir {} + 2>/dev/null || true
        done
    done
}

verdict() {
    "$python3" "$here/taps.py" collect "$results" "$("$runtime" --version 2>&1 | head -n 1)" "$tree"
    "$python3" "$here/taps.py" table "$results"
    printf 'results: %s\n' "$results"
}
