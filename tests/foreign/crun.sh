#!/bin/sh
# crun's own tests, with any runtime in crun's place:   RUNTIME=runc sh tests/foreign/crun.sh [test_FILE.py ...]
#
# Without files all of them. Writes a TAP file per test file and results.json into a folder, and prints a table.
# crun's tests speak crun's dialect: `--cgroup-manager X` and `--config FILE`. For a runtime with runc's command line
# (all but crun) a wrapper leaves them out.
#   RUNTIME          the program, a path or a name (default: the project's asyncrt-oci)
#   FOREIGN_RESULTS  the folder (default: a new one in the cache)
#   FOREIGN_SECONDS  the longest that one file may take (default 300)
#   FOREIGN_CASE_SECONDS  the longest that a case may take which is run again on its own (default 60)
#   FOREIGN_TREE     the unpacked sources of crun (default: what prepare.sh fetches; see there for FOREIGN_*)
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
. "$here/common.sh"

tree=${FOREIGN_TREE:-$(sh "$here/prepare.sh" crun | tail -n 1)}
[ -x "$tree/tests/init" ] || die "there is no tests/init in $tree"
results=$(results_folder crun)
case ${runtime##*/} in
crun*) OCI_RUNTIME=$runtime ;;
*)
    export FOREIGN_RUNTIME="$runtime"
    OCI_RUNTIME=$here/as-crun.sh
    ;;
esac
export OCI_RUNTIME INIT="$tree/tests/init"
modules=${FOREIGN_CACHE:-${HOME:?}/.cache/asyncrt-foreign}/python
[ ! -d "$modules" ] || export PYTHONPATH="$modules"

# The tests write into the folder that they run in; the cache stays as it is.
work=$(mktemp -d "${TMPDIR:-/tmp}/foreign-crun-XXXXXX")
trap 'rm -rf -- "$work"' EXIT
chmod 711 "$work"
mkdir "$work/tests"
cp "$tree"/tests/*.py "$tree/tests/init" "$work/tests/"
cd "$work"
if [ $# = 0 ]; then
    cd tests
    set -- test_*.py
    cd ..
fi
python=$(readlink -f "${FOREIGN_PYTHON:-$here/../../.venv/bin/python}")

# the_rest FILE TAP: a case that hangs takes the cases after it along. Those are run again, each on its own.
the_rest() {
    planned=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$2" | head -n 1)
    [ "$(grep -cE '^(not )?ok ' "$2")" -lt "${planned:-0}" ] || return 0
    sed -n 's/^ *"\([^" ]*\)" *: *test_.*/\1/p' "tests/$1" | while read -r name; do
        ! tr -d '\r' <"$2" | grep -qE "^(not )?ok [0-9]+ - $name( |\$)" || continue
        export RUN_TESTS="$name"
        in_terminal "$2.part" "$python tests/$1" "${FOREIGN_CASE_SECONDS:-60}" </dev/null
        cat "$2.part" >>"$2"
        rm "$2.part"
    done
}

for file in "$@"; do
    tap=$results/${file%.py}.tap
    in_terminal "$tap" "$python tests/$file" "${FOREIGN_SECONDS:-300}"
    the_rest "$file" "$tap"
done
verdict
