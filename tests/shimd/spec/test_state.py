"""The documents a runtime writes."""

import subprocess
import sys

from shimd.spec.decode import decode, encode
from shimd.spec.state import ContainerProcessState, State


def test_a_running_and_a_stopped_container() -> None:
    state = State(oci_version="1.3.0", id="box", status="running", bundle="/b", pid=7, annotations={"a": "b"})
    document = {
        "ociVersion": "1.3.0",
        "id": "box",
        "status": "running",
        "bundle": "/b",
        "pid": 7,
        "annotations": {"a": "b"},
    }
    assert encode(state) == document
    assert decode(State, document) == state
    assert "pid" not in encode(state._replace(status="stopped", pid=0))


def test_what_a_seccomp_listener_is_told() -> None:
    state = State(oci_version="1.3.0", id="box", status="creating", bundle="/b", pid=7)
    told = ContainerProcessState(oci_version="1.3.0", fds=("seccompFd",), pid=7, state=state, metadata="whose")
    assert encode(told)["fds"] == ["seccompFd"]
    assert encode(told)["state"]["status"] == "creating"
    assert decode(ContainerProcessState, encode(told)) == told


def test_the_room_imports_the_standard_library_alone_and_little_of_it() -> None:
    code = """
import sys
before = set(sys.modules)
import shimd.spec.validate, shimd.spec.state
new = {name for name in set(sys.modules) - before if not name.startswith("shimd")}
print(*sorted(name for name in new if name.partition(".")[0] not in sys.stdlib_module_names))
print(*sorted(new & {"ast", "dataclasses", "inspect", "json", "logging"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
