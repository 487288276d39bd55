"""--user against files that may be hostile."""

import os
from pathlib import Path

import pytest

from asyncrt.engine.users import MAX_BYTES, MAX_LINES, Identity, resolve
from asyncrt.errors import BadRequest, StorageFailed
from shimd.linux.paths import open_in_root

PASSWD = """\
# a comment: not a user
root:x:0:0:root:/root:/bin/sh
web:x:33:33:web:/var/www:/usr/sbin/nologin
1000:x:0:0:a trap:/trap:/bin/sh
4294967296:x:0:0:another trap:/trap:/bin/sh
app:x:1000:1001::/home/app:/bin/sh
short:x:5
homeless:x:7:7:::
minus:x:-1:0::/:
huge:x:4294967295:0::/:
empty:x::0::/:
badgroup:x:8:x::/:
"""
GROUP = """\
root:x:0:
www-data:x:33:web
audio:x:29:app,web
video:x:44:web
app:x:1001:
1234:x:0:
badid:x:none:homeless
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    return root


@pytest.mark.parametrize(
    ("spec", "identity"),
    [
        ("", Identity(0, 0, (0,), "/root")),
        ("root", Identity(0, 0, (0,), "/root")),
        ("0", Identity(0, 0, (0,), "/root")),
        ("web", Identity(33, 33, (33, 29, 44), "/var/www")),
        ("33", Identity(33, 33, (33, 29, 44), "/var/www")),
        ("web:video", Identity(33, 44, (44,), "/var/www")),
        ("web:0", Identity(33, 0, (0,), "/var/www")),
        ("app", Identity(1000, 1001, (1001, 29), "/home/app")),
        # All digits are an id, never the name of the trap.
        ("1000", Identity(1000, 1001, (1001, 29), "/home/app")),
        ("01000", Identity(1000, 1001, (1001, 29), "/home/app")),
        ("1:1234", Identity(1, 1234, (1234,), "/")),
        ("1", Identity(1, 0, (0,), "/")),
        ("4294967294:4294967294", Identity(4294967294, 4294967294, (4294967294,), "/")),
    ],
)
def test_who_it_is(image: Path, spec: str, identity: Identity) -> None:
    assert resolve(str(image), spec) == identity
    directory = os.open(image, os.O_PATH)
    assert resolve(directory, spec) == identity
    os.close(directory)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nobody", r'find user "nobody": the image\'s /etc/passwd has no such entry'),
        ("web:nobody", r'find group "nobody": the image\'s /etc/group has no such entry'),
        ("-1", "no such entry"),
        ("+1", "no such entry"),
        ("0x0", "no such entry"),
        ("1e3", "no such entry"),
        ("\u0661", "no such entry"),
        (" 0", "no such entry"),
        ("# a comment", "no such entry"),
        ("short", "no such entry"),
        ("4294967295", "the user id is too big"),
        ("4294967296", "the user id is too big"),
        ("9" * 5000, "the user id is too big"),
        ("0:4294967295", "the group id is too big"),
        (":", r"it is no USER\[:GROUP\]"),
        (":0", r"it is no USER\[:GROUP\]"),
        ("0:", r"it is no USER\[:GROUP\]"),
        ("0:0:0", r"it is no USER\[:GROUP\]"),
        ("minus", 'gives it the id "-1"'),
        ("huge", 'gives it the id "4294967295"'),
        ("empty", 'gives it the id ""'),
        ("badgroup", 'gives it the id "x"'),
        ("homeless", 'find user "badid": the image\'s /etc/group gives it the id "none"'),
    ],
)
def test_who_is_refused(image: Path, spec: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        resolve(str(image), spec)


def test_an_image_without_the_files(tmp_path: Path) -> None:
    assert resolve(str(tmp_path), "") == Identity(0, 0, (0,), "/")
    assert resolve(str(tmp_path), "5:6") == Identity(5, 6, (6,), "/")
    with pytest.raises(BadRequest, match=r'find user "web"'):
        resolve(str(tmp_path), "web")
    with pytest.raises(StorageFailed, match="read image /no/such"):
        resolve("/no/such", "")


def test_a_symlink_stays_in_the_image(image: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("web:x:0:0::/:\n")
    (image / "real").write_text("web:x:5:6::/w:\n")
    for target in ("../real", "/real", "../../../../../../real", "/../../real"):
        (image / "etc/passwd").unlink()
        (image / "etc/passwd").symlink_to(target)
        assert resolve(str(image), "web:7") == Identity(5, 7, (7,), "/w")
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").symlink_to(tmp_path / "outside")
    with pytest.raises(BadRequest, match="no such entry"):
        resolve(str(image), "web:7")


def test_a_magic_link_is_not_followed(image: Path) -> None:
    """An image cannot hold one; a running container's root has a /proc full of them."""
    held = os.open("/etc/passwd", os.O_RDONLY)
    root = os.open("/", os.O_PATH)
    try:
        with pytest.raises(OSError, match="symbolic links"):
            open_in_root(root, f"proc/self/fd/{held}", os.O_RDONLY)
    finally:
        os.close(held)
        os.close(root)


def test_what_is_no_regular_file_is_refused_at_once(image: Path) -> None:
    (image / "etc/passwd").unlink()
    os.mkfifo(image / "etc/passwd")
    with pytest.raises(BadRequest, match=r"read image's /etc/passwd: it is no regular file"):
        resolve(str(image), "")
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").mkdir()
    with pytest.raises(BadRequest, match="it is no regular file"):
        resolve(str(image), "")
    (image / "etc/passwd").rmdir()
    (image / "etc/passwd").symlink_to("passwd")
    with pytest.raises(BadRequest, match="too many levels of symbolic links"):
        resolve(str(image), "")


def test_size_is_bounded(image: Path) -> None:
    passwd = image / "etc/passwd"
    with passwd.open("w") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadRequest, match=f"larger than {MAX_BYTES} bytes"):
        resolve(str(image), "web")
    passwd.write_bytes(b"web:x:5:5::/:\n" + b"\n" * MAX_LINES)
    with pytest.raises(BadRequest, match=f"more than {MAX_LINES} lines"):
        resolve(str(image), "web")


def test_bytes_that_are_no_text(image: Path) -> None:
    (image / "etc/passwd").write_bytes(b"\xff\xfe:x:1:1::/:\nweb:x:5:6::/h\xe9:\n\x0bx:x:0:0::/:\n")
    (image / "etc/group").write_bytes(b"\x80:x:\xff:other\n")
    assert resolve(str(image), "web") == Identity(5, 6, (6,), "/")


@pytest.mark.parametrize("home", [b"", b"/h\0e", b"/h\xe9", b"/\x1b[31m"])
def test_a_home_that_cannot_be_used(image: Path, home: bytes) -> None:
    (image / "etc/passwd").write_bytes(b"web:x:5:6::" + home + b":\n")
    assert resolve(str(image), "web").home == "/"
