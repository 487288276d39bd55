"""A bundle's plan: what the engine's plan has, without what needs a shim and with what only a bundle has.

    config, documents = bundle.read("/path/of/bundle")     # after os.chdir there: relative paths mean the bundle
    plan = bundle.compile(config, cgroups.hierarchies(), Wish())

The engine's own containers have neither hooks nor a console; their `plan.py` refuses both by name, and here the steps
for them are put where they belong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from shimd.container import cgroups, console, devices, hooks, identity, root, starting
from shimd.container.making import Making, Operation, OutsideOperation
from shimd.container.plan import Plan, compile_plan
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import cgroups as kernel_cgroups
from shimd.linux.cgroups import Hierarchy
from shimd.spec import text
from shimd.spec.config import Config, Hooks
from shimd.spec.errors import SpecError
from shimd.spec.linux import systemd_path
from shimd.spec.validate import Tell, load


class Wish(NamedTuple):
    """What the command line says about a container beside its config."""

    pivot: bool = True
    keyring: bool = True


class OwnCgroup(NamedTuple):
    """Make the container's cgroup and those above it; one that is there already is used as it is.

    Callers give cgroups whose parents do not exist yet, or that they made themselves.
    """

    create: cgroups.CreateCgroup

    def describe(self) -> tuple[str, str]:
        return self.create.describe()

    def execute(self, making: Making) -> None:
        hierarchy = self.create.hierarchy
        above = os.path.dirname(making.cgroup)
        if above != "/":
            self._make_above(hierarchy, above, making)
        elif hierarchy.version == 2:
            kernel_cgroups.delegate(hierarchy.mount, hierarchy.controllers)
        directory = hierarchy.mount + making.cgroup
        if os.path.isdir(directory):
            self.create.hold(making)
        else:
            self.create.execute(making)
            making.made_cgroups.append(directory)

    @staticmethod
    def _make_above(hierarchy: Hierarchy, above: str, making: Making) -> None:
        path = hierarchy.mount
        missing = []
        for name in above.strip("/").split("/"):
            path = f"{path}/{name}"
            if not os.path.isdir(path):
                missing.append(path)
        if missing or hierarchy.version == 2:
            making.made_cgroups += missing
            kernel_cgroups.make_parent(hierarchy, above)

    def undo(self, making: Making) -> None:
        mount = self.create.hierarchy.mount + "/"
        if mount[:-1] + making.cgroup in making.made_cgroups:
            self.create.undo(making)
            making.made_cgroups.remove(mount[:-1] + making.cgroup)
        for path in reversed([path for path in making.made_cgroups if path.startswith(mount)]):
            try:
                os.rmdir(path)
            except OSError:
                break  # another container moved in, or took it away
            making.made_cgroups.remove(path)


def read(bundle: str, tell: Tell | None = None) -> tuple[Config, Mapping[str, Any]]:
    """The config of the bundle, and the document that it was. RuntimeTrouble says what is wrong where."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            document = text.read(file.read())
        config = load(document, tell)
    except FileNotFoundError:
        raise RuntimeTrouble(Trouble("read", path, "no such file or directory", "is this a bundle?", 2)) from None
    except OSError as error:
        raise RuntimeTrouble(Trouble("read", path, os.strerror(error.errno or 0).lower())) from None
    except (text.BadText, SpecError) as error:
        raise RuntimeTrouble(Trouble("read", path, str(error))) from None
    except RecursionError:
        raise RuntimeTrouble(Trouble("read", path, "it is nested too deep")) from None
    assert isinstance(document, dict)
    if config.process is None:
        raise RuntimeTrouble(Trouble("read", path, "$.process is missing, and a container needs one to be started"))
    return _absolute(config, bundle), document


def _absolute(config: Config, bundle: str) -> Config:
    """With the root as an absolute path: it goes into the state."""
    return config._replace(root=config.root._replace(path=os.path.normpath(os.path.join(bundle, config.root.path))))


def cgroup_of(config: Config, id: str) -> str:
    """The path of the container's cgroup below each hierarchy's mount; a relative one counts from there, too."""
    wanted = config.linux.cgroups_path
    if systemd_path(wanted):
        hint = "give a path; the systemd driver does not exist"
        raise RuntimeTrouble(Trouble("use", f"$.linux.cgroupsPath {wanted}", "it names a systemd unit", hint))
    return os.path.normpath("/" + wanted.strip("/")) if wanted.strip("/") else f"/{id}"


def compile(config: Config, hierarchies: list[Hierarchy], wish: Wish) -> Plan:
    """The plan of a container that stands alone. RuntimeTrouble for what cannot be had."""
    process = config.process
    assert process is not None
    if not os.path.isdir(config.root.path):
        raise RuntimeTrouble(Trouble("use", f"root {config.root.path}", "no such directory", errno=2))
    engines = engines_plan(config, hierarchies)
    *steps, last = starting.without_shim(engines.process, keyring=wish.keyring)
    assert isinstance(last, identity.Exec)
    find = starting.FindProgram(process.args[0], starting.search_path(process.env))
    return engines._replace(
        outside=tuple(_outside(engines.outside)),
        rooting=tuple(_rooting(engines.rooting, config, wish)),
        process=(*steps, find, starting.Await(config.hooks.start_container, last)),
    )


def engines_plan(config: Config, hierarchies: list[Hierarchy]) -> Plan:
    """What an engine's container of this config would be: all that an exec has to know."""
    process = config.process
    assert process is not None
    plain = process._replace(terminal=False, console_size=None)
    return compile_plan(config._replace(hooks=Hooks(), process=plain), hierarchies, stdin=True)


def _outside(steps: tuple[OutsideOperation, ...]) -> list[OutsideOperation]:
    return [OwnCgroup(step) if isinstance(step, cgroups.CreateCgroup) else step for step in steps]


def _rooting(steps: tuple[Operation, ...], config: Config, wish: Wish) -> list[Operation]:
    process = config.process
    assert process is not None
    found: list[Operation] = []
    for step in steps:
        if isinstance(step, root.PivotRoot):
            found += hooks.before_pivot(config.hooks)
            if not wish.pivot:
                step = root.MoveRoot()
        found.append(step)
        if process.terminal and isinstance(step, devices.DefaultDevices):
            found.append(console.TakeConsole(process.user.uid, process.console_size, bound=True))
    return found
