#!/bin/sh
# What a machine can judge without running the code: style, format, types, the import contract.   sh tests/check.sh
set -u
cd "$(dirname -- "$0")/.."
sh setup.sh dev || exit 1
PATH=$PWD/.venv/bin:$PATH

failed=
check() {
    printf -- '-- %s\n' "$*"
    "$@" || failed="$failed, $*"
}
# All of them, also after a failure: four reports in one go.
check ruff check
check ruff format --check
check mypy
check lint-imports --no-cache --no-logo
[ -z "$failed" ] || {
    printf 'checks FAILED: %s\n' "${failed#, }" >&2
    exit 1
}
