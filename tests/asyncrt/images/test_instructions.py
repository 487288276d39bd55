"""--change: what each instruction makes of a config, and what is refused."""

from typing import Any

import pytest

from asyncrt.errors import BadRequest
from asyncrt.images.instructions import apply


def changed(*changes: str, **config: Any) -> dict[str, Any]:
    apply(config, changes)
    return config


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ('CMD ["a", "b c"]', {"Cmd": ["a", "b c"]}),
        ("cmd echo $HOME", {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        ('ENTRYPOINT ["x"]', {"Entrypoint": ["x"]}),
        ("ENV A=1 B='two words' C=\"x y\"", {"Env": ["A=1", "B=two words", "C=x y"]}),
        ("ENV A some words", {"Env": ["A=some words"]}),
        ("LABEL a=b x.y=z", {"Labels": {"a": "b", "x.y": "z"}}),
        ("EXPOSE 80 53/udp 1-9", {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "1-9/tcp": {}}}),
        ('VOLUME ["/a b", "/c"]', {"Volumes": {"/a b": {}, "/c": {}}}),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ("USER 1:2", {"User": "1:2"}),
        ("WORKDIR /srv", {"WorkingDir": "/srv"}),
        ("STOPSIGNAL SIGUSR1", {"StopSignal": "SIGUSR1"}),
        ("ONBUILD RUN true", {"OnBuild": ["RUN true"]}),
    ],
)
def test_what_it_makes(change: str, config: dict[str, Any]) -> None:
    assert changed(change) == config


def test_what_was_there_stays_or_is_replaced() -> None:
    config = changed("ENV B=3", "ENTRYPOINT x", "WORKDIR sub", Env=["A=1", "B=2"], Cmd=["old"], WorkingDir="/top")
    assert config["Env"] == ["A=1", "B=3"]
    assert "Cmd" not in config, "it was for another program"
    assert config["WorkingDir"] == "/top/sub"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ("RUN true", "none that changes a config"),
        ("CMD", "something is missing"),
        ("ENV A", "has no value"),
        ("ENV A=1 B", "no NAME=VALUE"),
        ("ENV A='1", "no closing quotation"),
        ("EXPOSE http", "no port"),
        ("VOLUME data", "no place of a volume"),
        ("VOLUME /", "no place of a volume"),
        ("USER a\0b", "NUL"),
    ],
)
def test_what_is_refused(change: str, cause: str) -> None:
    with pytest.raises(BadRequest, match=cause):
        changed(change)
