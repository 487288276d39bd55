"""The house's own rules: who may import whom, how long a file may be, what stands at the top."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncrt

TOP = Path(__file__).resolve().parent.parent
LONGEST = 400
# A file past LONGEST lines hides a second noun. What is here has none, and says why.
LONG_FILES: dict[str, str] = {}
# What an import must not bring along: `asyncrt --help` takes 60 ms at most, a shim has all the zygote has.
HEAVY = {"anyio", "asyncio", "httpcore2", "msgpack", "msgspec", "pyroute2", "sqlite3", "ssl", "structlog", "trio"}
HEAVY |= {"isal", "zstandard"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (TOP / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(TOP))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every absolute import, also of those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, str(node.module).partition(".")[0]


def test_the_import_contract_holds() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    if not tool.exists():
        pytest.skip("import-linter is not installed: sh setup.sh dev")
    done = subprocess.run([tool, "--no-cache", "--no-logo"], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_shimd_imports_the_standard_library_and_msgpack() -> None:
    allowed = sys.stdlib_module_names | {"msgpack", "shimd"}
    strangers = [
        f"{name(path)}:{line} imports {module}"
        for path in sources("shimd")
        for line, module in imports(ast.parse(path.read_text(encoding="utf-8")))
        if module not in allowed
    ]
    assert not strangers, "every forked shim would carry it:\n" + "\n".join(strangers)


def test_packages_say_what_they_are_and_import_nothing_heavy() -> None:
    complaints = []
    for path in sources("asyncrt", "shimd"):
        if path.name != "__init__.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            complaints.append(f"{name(path)} has no docstring: purpose, nouns, who enters")
        allowed = (sys.stdlib_module_names | {"asyncrt", "shimd"}) - HEAVY
        complaints += [
            f"{name(path)}:{line} imports {module}" for line, module in imports(tree) if module not in allowed
        ]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("module", ["asyncrt", "asyncrt.cli.main", "shimd"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
        env=_clean_environment(),
    )
    assert not HEAVY & set(done.stdout.split())


def _clean_environment() -> dict[str, str]:
    # A coverage or debugger hook of the caller's would import what it likes.
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def test_every_folder_is_a_package() -> None:
    """setuptools and the import contract see a folder without __init__.py each in its own way."""
    folders = {path.parent for path in sources("asyncrt", "shimd")}
    assert not [name(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_no_file_hides_a_second_noun() -> None:
    long = {
        name(path): lines
        for path in sources("asyncrt", "shimd", "tests", "bench")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert not set(long) - set(LONG_FILES), f"past {LONGEST} lines, look for the second noun: {long}"
    assert not set(LONG_FILES) - set(long), "listed as long, but is not any more"


def test_there_is_no_utils() -> None:
    nameless = {"util", "utils", "helpers", "helper", "common", "misc"}
    assert not [name(path) for path in sources("asyncrt", "shimd") if {path.stem, path.parent.name} & nameless]


@pytest.mark.parametrize("path", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE"])
def test_what_stands_at_the_top(path: str) -> None:
    assert (TOP / path).read_text(encoding="utf-8").strip()


def test_the_readme_names_the_two_commands() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    assert "sh bench/demo.sh" in readme
    assert "sh tests/run.sh" in readme


def test_the_two_places_of_the_version_agree() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == asyncrt.__version__


@pytest.mark.parametrize(
    "script",
    ["setup.sh", "bench/demo.sh", "tests/run.sh", "tests/check.sh", "tests/bare.sh", "tests/bare-inside.sh"],
)
def test_scripts_are_portable_shell(script: str) -> None:
    first, *_ = (TOP / script).read_text(encoding="utf-8").splitlines()
    assert first == "#!/bin/sh"
    subprocess.run(["sh", "-n", script], cwd=TOP, check=True)


def _demo(*args: str, path: str = os.environ["PATH"]) -> tuple[int, str, str]:
    done = subprocess.run(
        ["sh", "bench/demo.sh", *args],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    return done.returncode, done.stdout, done.stderr


def test_the_demo_says_in_one_line_that_it_needs_root(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    said = "demo: containers need root here: run it as root, or with sudo\n"
    assert _demo(path=f"{tmp_path}:{os.environ['PATH']}") == (1, "", said)


@pytest.mark.parametrize("count", ["0", "-3", "many", "3x"])
def test_the_demo_refuses_what_is_no_count(count: str) -> None:
    assert _demo(count) == (1, "", f"demo: COUNT is a number from 1 on, not '{count}'\n")
