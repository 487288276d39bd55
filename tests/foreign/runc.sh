#!/bin/sh
# runc's own integration tests, with any runtime in runc's place:   RUNTIME=crun sh tests/foreign/runc.sh [FILE.bats ...]
#
# Without files all of them. Writes a TAP file per bats file and results.json into a folder, and prints a table.
#   RUNTIME          the program, a path or a name (default: the project's asyncrt-oci)
#   FOREIGN_RESULTS  the folder (default: a new one in the cache)
#   FOREIGN_SECONDS  the longest that one file may take (default 600). Not bats' own limit for a case: its clock is a
#                    child of the case, and cases that say `wait` would wait for it.
#   FOREIGN_TREE     the unpacked sources of runc (default: what prepare.sh fetches; see there for FOREIGN_*)
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
. "$here/common.sh"

tree=${FOREIGN_TREE:-$(sh "$here/prepare.sh" runc | tail -n 1)}
[ -d "$tree/tests/integration" ] || die "there are no sources of runc in $tree"
cd "$tree/tests/integration"
[ $# != 0 ] || set -- *.bats
results=$(results_folder runc)
temporary=$(mktemp -d "${TMPDIR:-/tmp}/foreign-runc-XXXXXX")
trap 'rm -rf -- "$temporary"' EXIT
chmod 711 "$temporary"

export RUNC="$runtime" TMPDIR="$temporary"
unset RUNC_USE_SYSTEMD ROOTLESS_FEATURES 2>/dev/null || true
for file in "$@"; do
    in_terminal "$results/${file%.bats}.tap" "bats --tap $file" "${FOREIGN_SECONDS:-600}"
done
verdict
