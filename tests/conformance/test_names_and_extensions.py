"""config.md: hostname, domainname, annotations, versions, and what the runtime does not know."""

import json

import pytest

from tests.conformance.bundle import Bundle

pytestmark = pytest.mark.root


def test_hostname(bundle: Bundle) -> None:
    """config.md, Hostname: as seen by processes inside."""
    bundle.config["hostname"] = "mrsdalloway"
    assert bundle.report()["hostname"] == "mrsdalloway"


def test_domainname(bundle: Bundle) -> None:
    """config.md, Domainname: as seen by processes inside."""
    bundle.config["domainname"] = "foobarbaz.test"
    assert bundle.report()["domainname"] == "foobarbaz.test"


def test_hostname_of_the_runtime_namespace_is_not_changed(bundle: Bundle) -> None:
    """config.md, Hostname: without a new UTS namespace it would be the machine's own; both callers' runtimes refuse."""
    before = bundle.runtime.room.run("hostname")
    bundle.without_namespace("uts").run()
    assert bundle.runtime.room.run("hostname") == before


def test_annotations_are_in_the_state(bundle: Bundle) -> None:
    """runtime.md, State, annotations; values MAY be empty."""
    bundle.config["annotations"] = {"org.example.key": "value", "org.example.empty": ""}
    state = bundle.create().state()
    assert bundle.config["annotations"].items() <= state["annotations"].items()


def test_empty_annotation_key_is_an_error(bundle: Bundle) -> None:
    """config.md, Annotations: keys MUST NOT be an empty string."""
    bundle.config["annotations"] = {"": "value"}
    bundle.refused()


def test_annotation_values_are_strings(bundle: Bundle) -> None:
    """config.md, Annotations: values MUST be strings."""
    bundle.config["annotations"] = {"org.example.key": {"no": "string"}}
    bundle.refused()


def test_unknown_properties_are_ignored(bundle: Bundle) -> None:
    """config.md, Extensibility: unknown properties MUST be ignored, wherever they are."""
    strange = {"of": ["another", {"version": 9}]}
    bundle.config["x-unknown"] = strange
    bundle.process["x-unknown"] = strange
    bundle.linux["x-unknown"] = strange
    bundle.config["mounts"][0]["x-unknown"] = strange
    assert bundle.report()["pid"] == "1"


def test_other_platforms_are_ignored(bundle: Bundle) -> None:
    """config.md, Platform-specific configuration: what is not this platform's is no concern."""
    bundle.config["solaris"] = {"limitpriv": "default"}
    bundle.config["windows"] = {"layerFolders": ["C:\\Layers\\layer1"]}
    assert bundle.report()["pid"] == "1"


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.1", "1.0.2-dev"])
def test_versions_of_one(bundle: Bundle, version: str) -> None:
    """config.md, Specification version: compatible within the major version."""
    bundle.config["ociVersion"] = version
    assert bundle.report()["pid"] == "1"


@pytest.mark.parametrize("version", ["", "one", "1.0", "1.0.0.0"])
def test_version_must_be_semantic(bundle: Bundle, version: str) -> None:
    """config.md, Specification version: MUST be in SemVer format."""
    bundle.config["ociVersion"] = version
    bundle.refused()


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "null", "{}"])
def test_a_document_that_is_none(bundle: Bundle, text: str) -> None:
    """runtime.md, Lifecycle: an environment that cannot be created MUST generate an error."""
    bundle.write()
    (bundle.path / "config.json").write_text(text)
    id = bundle.id()
    bundle.runtime("create", "--bundle", str(bundle.path), id).refused()
    assert bundle.runtime("state", id).code != 0


@pytest.mark.parametrize(
    ("section", "key", "wrong"),
    [
        ("process", "cwd", 7),
        ("process", "args", "text"),
        ("process", "user", []),
        ("linux", "namespaces", {"type": "pid"}),
        ("root", "path", None),
    ],
    ids=["cwd", "args", "user", "namespaces", "path"],
)
def test_wrong_types_are_errors(bundle: Bundle, section: str, key: str, wrong: object) -> None:
    """config.md, Valid values: MUST generate an error when invalid values are encountered."""
    bundle.config[section][key] = wrong
    container = bundle.attempt()
    if section == "process" and container.created.code == 0:
        container.start().refused()
    else:
        container.created.refused()


def test_numbers_past_their_type_are_errors(bundle: Bundle) -> None:
    """config.md, POSIX-platform User: an id that the kernel cannot hold is no other id (CVE-2026-30892's kin)."""
    bundle.process["user"] = {"uid": 2**32, "gid": 0}
    bundle.write()
    assert json.loads((bundle.path / "config.json").read_text())["process"]["user"]["uid"] == 2**32
    bundle.run().refused()
