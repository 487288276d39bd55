"""Image config -> settings: every row of the spec's table."""

import json
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.errors import BadImage
from asyncrt.images import config as configs
from asyncrt.images.conversion import Port, Settings, convert
from asyncrt.images.documents import Manifest
from asyncrt.model.descriptor import Descriptor, Platform
from asyncrt.model.media_types import OCI_CONFIG, OCI_LAYER

SHA = "sha256:" + "ab" * 32


def document(execution: Any = None, **more: Any) -> dict[str, Any]:
    rootfs = {"type": "layers", "diff_ids": [SHA]}
    return {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": execution, **more}


def read(document: Any) -> configs.Config:
    return configs.read(json.dumps(document).encode(), "x")


def settings(**execution: Any) -> Settings:
    return convert(read(document(execution)), "x")


def test_every_field_of_the_table_arrives() -> None:
    found = settings(
        User="alice:users",
        ExposedPorts={"80": {}, "53/udp": {}, "8000-8010/tcp": {}},
        Env=["PATH=/bin", "EMPTY="],
        Entrypoint=["/init"],
        Cmd=["a", "b"],
        Volumes={"/data": {}, "/var//lib/": {}},
        WorkingDir="/srv",
        Labels={"a": "b"},
        StopSignal="SIGUSR1",
    )
    assert found.user == "alice:users"
    assert found.ports == (Port(80, 80, "tcp"), Port(53, 53, "udp"), Port(8000, 8010, "tcp"))
    assert found.env == ("PATH=/bin", "EMPTY=")
    assert found.args == ("/init", "a", "b")
    assert found.volumes == ("/data", "/var/lib")
    assert found.working_directory == "/srv"
    assert found.labels == {"a": "b"}
    assert found.stop_signal == signal.SIGUSR1


def test_annotations_are_those_of_the_table_and_labels_go_before() -> None:
    image = document(
        {
            "StopSignal": "TERM",
            "ExposedPorts": {"1": {}, "2/udp": {}},
            "Labels": {"org.opencontainers.image.os": "own"},
        },
        author="a <b>",
        created="2026-01-01T00:00:00Z",
        variant="v2",
        **{"os.version": "1", "os.features": ["x", "y"]},
    )
    prefix = "org.opencontainers.image."
    found = convert(read(image), "x").annotations
    assert {key.removeprefix(prefix): value for key, value in found.items()} == {
        "os": "own",
        "architecture": "amd64",
        "variant": "v2",
        "os.version": "1",
        "os.features": "x,y",
        "author": "a <b>",
        "created": "2026-01-01T00:00:00Z",
        "stopSignal": "TERM",
        "exposedPorts": "1,2/udp",
    }
    assert read(image).platform == Platform("amd64", "linux", "1", ("x", "y"), "v2")


def test_docker_s_nulls_and_an_empty_config_say_nothing() -> None:
    names = {"OnBuild", "Healthcheck"} | {name.title().replace("_", "") for name in configs.Execution.__struct_fields__}
    nulls = settings(**dict.fromkeys(names))
    assert nulls == convert(read(document(None)), "x") == settings()
    assert (nulls.args, nulls.user, nulls.working_directory, nulls.stop_signal) == ((), "", "", 0)


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGRTMIN", 34), ("64", 64)],
)
def test_stop_signals(text: str, number: int) -> None:
    assert settings(StopSignal=text).stop_signal == number


@pytest.mark.parametrize(
    ("path", "found"), [("srv", "/srv"), ("/a/../../b", "/b"), ("//a", "/a"), ("/", "/"), (".", "/"), ("", "")]
)
def test_working_directories_are_absolute(path: str, found: str) -> None:
    assert settings(WorkingDir=path).working_directory == found


@pytest.mark.parametrize(
    ("execution", "cause"),
    [
        ({"StopSignal": "SIGNOPE"}, "StopSignal: 'SIGNOPE' is no signal"),
        ({"StopSignal": "0"}, "is no signal"),
        ({"StopSignal": "65"}, "is no signal"),
        ({"StopSignal": "RTMIN-1"}, "is no signal"),
        ({"StopSignal": "RTMIN+99"}, "is no signal"),
        ({"StopSignal": "\u0661\u0665"}, "is no signal"),
        ({"ExposedPorts": {"x": {}}}, "ExposedPorts: 'x' is no port"),
        ({"ExposedPorts": {"0": {}}}, "is no port"),
        ({"ExposedPorts": {"65536/tcp": {}}}, "is no port"),
        ({"ExposedPorts": {"9-8": {}}}, "is no port"),
        ({"ExposedPorts": {"8/icmp": {}}}, "is no port"),
        ({"Volumes": {"/": {}}}, "Volumes: '/' is no place"),
        ({"Volumes": {"/a/../..": {}}}, "is no place"),
        ({"Volumes": {"data": {}}}, "is no place"),
        ({"Env": ["A=\0"]}, "Env: there is a NUL"),
        ({"Cmd": ["\0"]}, "Cmd: there is a NUL"),
        ({"User": "a\0b"}, "User: there is a NUL"),
        ({"WorkingDir": "/a\0"}, "WorkingDir: there is a NUL"),
        ({"Env": "A=1"}, r"got `str` - at `\$.config.Env`"),
        ({"Cmd": "sh"}, r"at `\$.config.Cmd`"),
    ],
)
def test_what_makes_no_sense_is_named(execution: dict[str, Any], cause: str) -> None:
    with pytest.raises(BadImage, match=f"read image config x: .*{cause}"):
        settings(**execution)


def test_configs_that_are_none_are_refused() -> None:
    for broken, cause in [
        (document() | {"rootfs": {"type": "squash"}}, "of type 'squash'"),
        (document() | {"rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}}, "no diffID"),
        ({"os": "linux"}, "missing required field"),
    ]:
        with pytest.raises(BadImage, match=cause):
            read(broken)


def test_manifest_and_config_have_to_fit() -> None:
    layer = Descriptor(OCI_LAYER, SHA, 1)
    of_one = Manifest(2, Descriptor(OCI_CONFIG, SHA, 1), (layer,))
    configs.fits(of_one, read(document()), "x")
    configs.runnable(of_one, "x")
    with pytest.raises(BadImage, match="2 layers and 1 diffIDs"):
        configs.fits(Manifest(2, of_one.config, (layer, layer)), read(document()), "x")
    with pytest.raises(BadImage, match="'a/b'"):
        configs.runnable(Manifest(2, of_one.config, (), artifact_type="a/b"), "x")
    with pytest.raises(BadImage, match="'c/d'"):
        configs.runnable(Manifest(2, Descriptor("c/d", SHA, 1), ()), "x")


TEXT = st.text(max_size=12)
EXECUTION = st.fixed_dictionaries(
    {},
    optional={
        "User": TEXT,
        "WorkingDir": TEXT,
        "StopSignal": TEXT,
        "Env": st.lists(TEXT, max_size=2),
        "Volumes": st.dictionaries(TEXT, st.none(), max_size=2),
        "ExposedPorts": st.dictionaries(st.from_regex(r"[0-9]{1,3}(/[a-z]+)?", fullmatch=True) | TEXT, st.none()),
    },
)


@given(EXECUTION)
def test_any_execution_is_converted_or_refused(execution: dict[str, Any]) -> None:
    try:
        found = settings(**execution)
    except BadImage:
        return
    assert found.working_directory == "" or found.working_directory.startswith("/")
    assert all(path.startswith("/") and ".." not in path.split("/") for path in found.volumes)
    assert 0 <= found.stop_signal <= 64
