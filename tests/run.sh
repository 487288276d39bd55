#!/bin/sh
# All checks, then all tests:   sh tests/run.sh [arguments of pytest]        e.g.  -m "not root"   -k leaks   -x
#
# Root tests need uid 0; without it they are skipped, and the summary says so.
set -eu
cd "$(dirname -- "$0")/.."
sh tests/check.sh
# The environment's own interpreter by name: `python3` on PATH may be a shim that costs 0.3 s a start.
printf -- '-- pytest %s\n' "$*"
status=0
.venv/bin/python -m pytest "$@" || status=$?
[ "$status" = 0 ] || printf 'tests FAILED (pytest exit status %s)\n' "$status" >&2
exit "$status"
