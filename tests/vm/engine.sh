# An engine and its command line, for the scripts beside:   name=NAME; . tests/vm/engine.sh        (from the project's root)
#
# Sets `base`, a directory of its own with all that the engine has, and `image`; `asyncrt` is the command, and a supervisor
# runs. `same` and `die` speak in the script's name; after `die` nothing more is done.
set -eu
python=$PWD/.venv/bin/python
export PYTHONPATH="$PWD"
base=$(mktemp -d "/tmp/asyncrt-$name.XXXXXX")
export ASYNCRT_ROOT="$base/root" ASYNCRT_STATE="$base/state" ASYNCRT_SOCKET="$base/socket"

die() {
    printf '%s: FAILED: %s\n' "$name" "$*" >&2
    cat "$base"/state/*.log >&2 2>/dev/null || true
    exit 1
}

asyncrt() {
    timeout 90 "$python" -m asyncrt "$@"
}

same() { # WHAT WANTED FOUND
    [ "$2" = "$3" ] || die "$1: wanted '$2', found '$3'"
    printf '%s: %s\n' "$name" "$1"
}

value() { # KEY or index ...: of the JSON on stdin
    "$python" -c 'import functools, json, sys
step = lambda value, key: value[int(key) if isinstance(value, list) else key]
print(functools.reduce(step, sys.argv[1:], json.load(sys.stdin)))' "$@"
}

rootfs=$("$python" -c 'import pathlib, sys; from tests.rootfs import build; print(build(pathlib.Path(sys.argv[1])))' "$base/image")
image=rootfs:$rootfs

# An emulated machine may need more than the 15 s that the command line gives a supervisor.
for _ in 1 2 3 4; do
    ! asyncrt info >/dev/null || break
done
