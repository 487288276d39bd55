"""Resolution that cannot leave a root: links of every kind, and what is made on the way."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shimd.linux import paths


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Beside the root; it must stay as it is."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text("secret\n")
    yield place
    assert [path.name for path in place.iterdir()] == ["secret"]
    assert (place / "secret").read_text() == "secret\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    (place / "etc").mkdir(parents=True)
    (place / "etc/passwd").write_text("root\n")
    return place


@contextmanager
def opened(root: Path, path: str, how: Callable[..., int] = paths.open_in_root) -> Iterator[os.stat_result]:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        fd = how(directory, path)
        try:
            yield os.fstat(fd)
        finally:
            os.close(fd)
    finally:
        os.close(directory)


def same(found: os.stat_result, path: Path) -> bool:
    return os.path.samestat(found, path.stat())


@pytest.mark.parametrize(
    "path", ["etc/passwd", "/etc/passwd", "//etc//passwd", "/../../etc/passwd", "etc/../etc/./passwd"]
)
def test_plain_paths(root: Path, path: str) -> None:
    with opened(root, path) as found:
        assert same(found, root / "etc/passwd")


@pytest.mark.parametrize("path", ["", "/", ".", "..", "/../.."])
def test_the_root_itself(root: Path, path: str) -> None:
    with opened(root, path) as found:
        assert same(found, root)


def test_links_are_followed_as_if_the_root_were_root(root: Path, outside: Path) -> None:
    for name, target in {"absolute": "/etc", "up": "../../../../etc", "chain": "absolute"}.items():
        (root / name).symlink_to(target)
        with opened(root, f"{name}/passwd") as found:
            assert same(found, root / "etc/passwd")


TO_THE_OUTSIDE = ("{outside}", "../outside", "../../../../../../..{outside}")


@pytest.mark.parametrize("tail", ["", "/new", "/new/deeper", "/secret"])
def test_links_that_point_outside(root: Path, outside: Path, tail: str) -> None:
    for target in TO_THE_OUTSIDE:
        link = root / "link"
        link.symlink_to(target.format(outside=outside))
        with pytest.raises(OSError, match="No such file"):
            with opened(root, f"link{tail}"):
                pass
        link.unlink()


@pytest.mark.parametrize("make", [paths.make_directory_in_root, paths.make_file_in_root])
@pytest.mark.parametrize("tail", ["", "/new", "/new/deeper", "/secret"])
def test_what_such_a_link_means_is_made_inside(root: Path, outside: Path, make: Callable[..., int], tail: str) -> None:
    """`outside` itself stays as it is: the fixture looks."""
    for target in TO_THE_OUTSIDE:
        link = root / "link"
        link.symlink_to(target.format(outside=outside))
        meant = root / ("outside" if target == "../outside" else str(outside)[1:]) / tail[1:]
        with opened(root, f"link{tail}", make) as found:
            assert same(found, meant)
        link.unlink()


def test_a_loop(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    for how in (paths.open_in_root, paths.make_directory_in_root, paths.make_file_in_root):
        with pytest.raises(OSError, match="Too many levels"):
            with opened(root, "a/x", how):
                pass


def test_magic_links_are_not_followed(root: Path, outside: Path) -> None:
    proc = os.open("/proc", os.O_PATH)
    held = os.open(outside, os.O_PATH)
    try:
        with pytest.raises(OSError, match="Too many levels"):
            paths.open_in_root(proc, f"self/fd/{held}/secret")
        with pytest.raises(OSError, match="Too many levels"):
            paths.open_in_root(proc, "self/root/etc")
    finally:
        os.close(held)
        os.close(proc)


def test_directories_are_made(root: Path) -> None:
    with opened(root, "/a/b/c", paths.make_directory_in_root) as found:
        assert same(found, root / "a/b/c")
        assert found.st_mode & 0o777 == 0o755
    with opened(root, "a/b/c", paths.make_directory_in_root) as found:
        assert same(found, root / "a/b/c")


def test_directories_are_made_behind_a_link(root: Path) -> None:
    (root / "link").symlink_to("/etc")
    with opened(root, "link/x/y", paths.make_directory_in_root) as found:
        assert same(found, root / "etc/x/y")


def test_a_directory_on_the_way_that_is_a_file(root: Path) -> None:
    with pytest.raises(NotADirectoryError):
        with opened(root, "etc/passwd/x", paths.make_directory_in_root):
            pass


def test_a_directory_where_a_file_is(root: Path) -> None:
    with pytest.raises(NotADirectoryError):
        with opened(root, "etc/passwd", paths.make_directory_in_root):
            pass


def test_dots_in_what_is_made_stay_inside(root: Path, outside: Path) -> None:
    for path in ("../outside/new", "x/../../outside/new", "/../../../outside/new"):
        try:
            with opened(root, path, paths.make_directory_in_root):
                pass
        except OSError:
            continue
    assert not (outside / "new").exists()


def test_a_file_is_made(root: Path) -> None:
    with opened(root, "srv/deep/file", paths.make_file_in_root) as found:
        assert same(found, root / "srv/deep/file")
        assert found.st_size == 0
    with opened(root, "etc/passwd", paths.make_file_in_root) as found:
        assert found.st_size == 5


def test_a_chain_of_dangling_links(root: Path) -> None:
    """As many as the kernel follows, and each is made where it means; beyond, it is a loop."""
    for number in range(paths.MOST_LINKS + 10):
        (root / f"l{number}").symlink_to(f"d{number}/../l{number + 1}")
    with pytest.raises(OSError, match="Too many levels"), opened(root, "l0", paths.make_file_in_root):
        pass
    with opened(root, f"l{paths.MOST_LINKS - 5}", paths.make_file_in_root) as found:
        assert same(found, root / f"l{paths.MOST_LINKS + 10}")


def test_no_fd_is_left(root: Path, outside: Path) -> None:
    (root / "link").symlink_to(outside)
    before = sorted(os.listdir("/proc/self/fd"))
    for how in (paths.open_in_root, paths.make_directory_in_root, paths.make_file_in_root):
        for path in ("a/b", "link/x", "etc/passwd/x", "etc"):
            try:
                with opened(root, path, how):
                    pass
            except OSError:
                continue
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_error_names_the_path(root: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        with opened(root, "no/such/thing"):
            pass
    assert caught.value.filename == "no/such/thing"
