"""Names and documents made wrong at random: every parser answers with a value that holds, or refuses in one line.

    python -m tests.asyncrt.images.test_parsers_fuzz SECONDS [SEED]     (just fuzz-parsers)

Three parsers of what strangers write: references, manifests and indexes, configs with their conversion. What they make
of a mutant must read back to the same value, and hold what the rest of the engine takes for granted. Whatever is raised
but the one error of each is a finding.
"""

import copy
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import PurePosixPath

import msgspec

from asyncrt.errors import AsyncrtError, BadImage, BadRequest
from asyncrt.images import config, conversion, documents
from asyncrt.model import media_types, reference
from asyncrt.model.digest import is_digest

HEX = "0123456789abcdef" * 4
NAMES = [
    "busybox",
    "debian:12",
    "localhost/app",
    "x.y:5000/a/b__c-d.e:V1.2",
    f"docker.io/library/busybox@sha256:{HEX}",
    f"[::1]:5000/app:v1@sha512:{HEX}{HEX}",
    "index.docker.io/user/app:latest",
]
NAME_WORDS = [
    "..",
    "//",
    ":",
    "@",
    "/",
    "[",
    "]",
    "A",
    "\0",
    "\n",
    "é",
    "🙂",
    "_",
    "__",
    "-",
    ".",
    "sha256:",
    "65536",
    "x",
]
NAME_WORDS += [HEX, "a" * 255, " ", "\u202e", "%2f", "\uff10"]

LAYER = {"mediaType": f"{media_types.OCI_LAYER}+gzip", "digest": f"sha256:{HEX}", "size": 1234}
CONFIG = {"mediaType": media_types.OCI_CONFIG, "digest": f"sha256:{HEX}", "size": 700}
MANIFEST = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER, LAYER]}
PLATFORM = {"architecture": "arm64", "os": "linux", "variant": "v8", "os.version": "1", "os.features": ["x"]}
ENTRY = {"mediaType": media_types.OCI_MANIFEST, "digest": f"sha256:{HEX}", "size": 500, "platform": PLATFORM}
INDEX = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [ENTRY, ENTRY], "annotations": {"a": "b"}}
SETTINGS = {
    "User": "1000:users",
    "ExposedPorts": {"80/tcp": {}, "8000-8010/udp": {}},
    "Env": ["PATH=/bin", "A="],
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": None,
    "Volumes": {"/data": {}, "/a/../b": {}},
    "WorkingDir": "srv",
    "Labels": {"x": "y"},
    "StopSignal": "SIGRTMIN+3",
}
IMAGE = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-01T00:00:00Z",
    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]},
    "config": SETTINGS,
    "history": [{"created_by": "x", "empty_layer": True}],
}
VALUES = [
    None,
    True,
    0,
    -1,
    2,
    1 << 63,
    1.5,
    1e400,
    "",
    "/",
    "..",
    "\0",
    "x\ny",
    "sha256:",
    f"sha512:{HEX}{HEX}",
    [],
    {},
    [[]],
]
VALUES += [{"": ""}, ["\0"], "SIGKILL", "65536/tcp", media_types.OCI_INDEX, media_types.DOCKER_MANIFEST, [LAYER] * 200]
KEYS = [
    "layers",
    "Layers",
    "manifests",
    "config",
    "fsLayers",
    "mediaType",
    "schemaVersion",
    "subject",
    "urls",
    "data",
    "os",
]
BYTES = [
    b"\0",
    b"\xff",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\u0000",
    b"\\ud800",
    b",",
    b"null",
    b"1e999",
    b"[" * 3000,
    b"\xef\xbb\xbf",
]


def mutant_name(chance: random.Random) -> str:
    text = chance.choice(NAMES)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text = text[:at] + chance.choice(NAME_WORDS) + text[at:]
            case 1:
                text = text[:at] + text[at + chance.randint(1, 8) :]
            case 2:
                text = text[:at] + chr(chance.randrange(0xD800)) + text[at + 1 :]
            case 3:
                text += text[:at]
    return text


def mutant_document(chance: random.Random, value: object) -> bytes:
    """JSON of `value` with some places changed, and sometimes the JSON itself damaged."""
    tree = json.loads(json.dumps(value))
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        _change(chance, tree)
    data = bytearray(json.dumps(tree).encode())
    if chance.random() < 0.3:
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at : at + 1] = chance.choice(BYTES)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case 2:
                del data[at:]
            case 3:  # a field twice
                data[1:1] = json.dumps({chance.choice(KEYS): chance.choice(VALUES)}).encode()[1:-1] + b","
    return bytes(data)


def _change(chance: random.Random, tree: object) -> None:
    while True:
        if isinstance(tree, dict) and tree:
            key = chance.choice(list(tree))
            if isinstance(tree[key], dict | list) and tree[key] and chance.random() < 0.6:
                tree = tree[key]
                continue
            match chance.randrange(4):
                case 0:
                    del tree[key]
                case 1:
                    tree[chance.choice((key, key.upper(), chance.choice(KEYS)))] = copy.deepcopy(chance.choice(VALUES))
                case 2:
                    tree[key] = copy.deepcopy(chance.choice((MANIFEST, INDEX, IMAGE, LAYER)))
                case 3 if isinstance(tree[key], str):
                    text = tree[key]
                    at = chance.randrange(len(text) + 1)
                    tree[key] = text[:at] + chance.choice(NAME_WORDS) + text[at:]
        elif isinstance(tree, list) and tree:
            at = chance.randrange(len(tree))
            if isinstance(tree[at], dict | list) and tree[at] and chance.random() < 0.6:
                tree = tree[at]
                continue
            tree[at] = copy.deepcopy(chance.choice(VALUES))
        return


def name(chance: random.Random) -> str:
    found = reference.parse(mutant_name(chance))
    assert reference.parse(str(found)) == found
    assert reference.parse(found.familiar()) == found
    assert str(found).isprintable()
    assert str(found).isascii()
    assert found.target
    assert ".." not in found.path.split("/")
    return "name"


def manifest(chance: random.Random) -> str:
    given = chance.choice(("", "", media_types.OCI_MANIFEST, media_types.OCI_INDEX, media_types.DOCKER_MANIFEST))
    found = documents.read(mutant_document(chance, chance.choice((MANIFEST, INDEX))), given, "fuzzed")
    assert documents.read(documents.encode(found), found.media_type, "fuzzed") == found
    assert found.media_type in media_types.MANIFESTS | media_types.INDEXES
    parts = (found.config, *found.layers) if isinstance(found, documents.Manifest) else found.manifests
    assert all(is_digest(part.digest) and part.size >= 0 for part in parts)
    if isinstance(found, documents.Manifest):
        documents.layers(found, "fuzzed")
    return type(found).__name__


def image(chance: random.Random) -> str:
    found = config.read(mutant_document(chance, IMAGE), "fuzzed")
    assert all(is_digest(one) for one in found.diff_ids)
    settings = conversion.convert(found, "fuzzed")
    texts = (*settings.env, *settings.args, settings.user, settings.working_directory, *settings.volumes)
    assert not any("\0" in text for text in texts)
    places = [PurePosixPath(place) for place in (*settings.volumes, settings.working_directory or "/")]
    assert all(place.is_absolute() and ".." not in place.parts for place in places)
    assert 0 <= settings.stop_signal <= 64
    msgspec.json.encode(settings)
    return "config"


TARGETS: dict[Callable[[random.Random], str], type[AsyncrtError]] = {
    name: BadRequest,
    manifest: BadImage,
    image: BadImage,
}


def in_one_line(error: Exception) -> None:
    assert "\n" not in str(error)


def trial(seed: int) -> str:
    """One mutant; what became of it."""
    chance = random.Random(seed)
    target = chance.choice(list(TARGETS))
    try:
        return target(chance)
    except TARGETS[target] as error:
        in_one_line(error)
        return f"{target.__name__} refused"


def run(seconds: float, seed: int) -> dict[str, int]:
    """Trials for so long; how many ended how."""
    count: dict[str, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            outcome = trial(seed)
        except BaseException:
            print(f"fuzz-parsers: found with seed {seed}", file=sys.stderr)
            raise
        count[outcome] = count.get(outcome, 0) + 1
        seed += 1
    return count


def test_a_little() -> None:
    assert len(run(2.0, 0)) >= 6


if __name__ == "__main__":
    first = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 40)
    print(f"fuzz-parsers: from seed {first}", flush=True)
    print(run(float(sys.argv[1]), first))
