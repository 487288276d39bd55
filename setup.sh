#!/bin/sh
# Makes .venv with the project in it, or leaves it alone if it is fresh:   sh setup.sh [dev]
#
# "dev" adds the tools of the checks and tests. Fresh means: made for this folder, by this Python, for this
# pyproject.toml and the C sources. The demo and the tests start here; both work on a machine that has only Python, pip and venv.
#   ASYNCRT_PYTHON   the interpreter to make it with (default: the first of python3, python3.13 ... that will do)
set -eu
extra=${1:-}
cd "$(dirname -- "$0")"

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

case $extra in
'' | dev) ;;
*) die "unknown extra '$extra': give none, or 'dev'" ;;
esac

# `python3` on PATH can be a slow shim; it is asked three things here and never again: all else runs .venv/bin/python.
python=
for candidate in "${ASYNCRT_PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || die "no Python 3.11 or newer found; on Debian: apt-get install python3 python3-venv"
# Debian's python3 has a venv module that cannot make one: its ensurepip is a package of its own.
identity=$("$python" - <<'PY'
import os, sys
try:
    import ensurepip, venv
except ImportError:
    sys.exit(f"setup: this Python cannot make a virtual environment (no ensurepip); "
             f"on Debian: apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv")
print(os.path.realpath(sys.executable), sys.version.split()[0])
PY
) || exit 1

# One at a time: the demo may be started while the tests set up. The lock goes when the last holder exits.
exec 9<pyproject.toml
flock 9

wanted=$({ cat pyproject.toml setup.py shimd/*/*.[ch] shimd/command/front/*.[ch]; printf '%s\n' "$PWD" "$identity"; } | sha256sum | cut -d ' ' -f 1)
stamp=.venv/stamp${extra:+-$extra}
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

printf 'setup: installing into .venv%s\n' "${extra:+ (with the $extra tools)}" >&2
# A half-made environment has no stamp and is made anew. One that only lacks the other extra is added to.
if [ "$(cat .venv/stamp 2>/dev/null)" != "$wanted" ]; then
    "$python" -m venv --clear .venv || die "could not make .venv with $identity"
fi
rm -f .venv/stamp .venv/stamp-dev
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-warn-script-location \
    --editable ".${extra:+[$extra]}" 9<&- || die "pip could not install the dependencies (is a package index reachable?)"
printf '%s\n' "$wanted" >.venv/stamp
[ -z "$extra" ] || printf '%s\n' "$wanted" >"$stamp"
