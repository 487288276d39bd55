# One word per habit; `just` alone lists them. just is a convenience (pip brings it with the dev tools): every recipe
# is a script or a program that works without it.

# arguments reach the scripts as they were quoted
set positional-arguments

python := ".venv/bin/python"

[private]
default:
    @{{ just_executable() }} --list --unsorted

# the virtual environment with all tools, if missing or stale
[group('house')]
setup:
    @sh setup.sh dev

# rewrite the sources in the house's format, with ruff's safe fixes
[group('house')]
fmt: setup
    {{ python }} -m ruff check --fix-only --quiet
    {{ python }} -m ruff format

# forget caches, builds and the virtual environment
[group('house')]
clean:
    rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
    find . -name __pycache__ -type d -prune -exec rm -rf {} +

# style, format, types, import contract
[group('judge')]
check:
    @sh tests/check.sh

# the checks, then every test; arguments go to pytest
[group('judge')]
test *args:
    @sh tests/run.sh "$@"

# the tests that need no root and little time
[group('judge')]
test-fast *args: setup
    @{{ python }} -m pytest -m "not root and not slow" "$@"

# a selection of the root tests on cgroup v2 and Debian's kernel, in a virtual machine (see the head of tests/vm/run.sh)
[group('judge')]
test-v2 *args:
    @sh tests/vm/run.sh "$@"

# every clause of the runtime-spec from outside, over asyncrt-oci or OCI_RUNTIME=crun (tests/conformance)
[group('judge')]
conformance *args: setup
    @{{ python }} -m pytest tests/conformance "$@"

# runc's own integration tests, over asyncrt-oci or RUNTIME=runc (see the head of tests/foreign/runc.sh)
[group('judge')]
suite-runc *args: setup
    @sh tests/foreign/runc.sh "$@"

# crun's own tests, over asyncrt-oci or RUNTIME=crun (see the head of tests/foreign/crun.sh)
[group('judge')]
suite-crun *args: setup
    @sh tests/foreign/crun.sh "$@"

# mutated tars against the reader and extractor of layers, for some seconds (see the head of tests/asyncrt/layers/test_fuzz.py)
[group('judge')]
fuzz-tar seconds="600" *args: setup
    @{{ python }} -m tests.asyncrt.layers.test_fuzz "$@"

# mutated names, manifests and configs against their parsers, for some seconds (tests/asyncrt/images/test_parsers_fuzz.py)
[group('judge')]
fuzz-parsers seconds="600" *args: setup
    @{{ python }} -m tests.asyncrt.images.test_parsers_fuzz "$@"

# runtime-tools' validation over asyncrt-oci or RUNTIME=runc, from TOOLS_TREE (see the head of tests/foreign/tools.sh)
[group('judge')]
suite-tools *args: setup
    @sh tests/foreign/tools.sh "$@"

# 100,000 runs while the supervisor is killed over and over, hours; less by --runs, --pause (see tests/soak)
[group('judge')]
soak *args: setup
    @{{ python }} -m tests.soak "$@"

# 1000 that are killed for want of memory among 1000 that end with 137 by SIGKILL: who is said to have been (tests/oom)
[group('judge')]
oom *args: setup
    @{{ python }} -m tests.oom "$@"

# what CI runs
[group('judge')]
ci:
    @.ci/run

# both README commands in a fresh Debian 12 root (debootstrap; see the head of tests/bare.sh)
[group('judge')]
bare *args:
    @sh tests/bare.sh "$@"

# hundreds of containers at once, with a picture
[group('run')]
demo count="300":
    @sh bench/demo.sh {{ count }}

# concurrent starts beside the peers that are installed
[group('run')]
bench *args: setup
    @{{ python }} bench/start.py "$@"

# 1 GiB of stdout through run and attach, in ratio to a bare pipe, beside podman and docker
[group('run')]
bench-streams *args: setup
    @{{ python }} bench/streams.py "$@"

# exec of `true`, and a byte to and fro through hundreds of sessions, beside crun, podman and docker
[group('run')]
bench-exec *args: setup
    @{{ python }} bench/exec.py "$@"

# stats of 300 containers at once beside docker's, and what watching them costs
[group('run')]
bench-watching *args: setup
    @{{ python }} bench/watching.py "$@"

# an exec beside 20 containers that do their worst, and whether their limits hold
[group('run')]
bench-neighbours *args: setup
    @{{ python }} bench/neighbours.py "$@"
