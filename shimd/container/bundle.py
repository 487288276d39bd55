"""A bundle's plan: what the engine's plan has, without what needs a shim and with what only a bundle has.

    config, documents = bundle.read("/path/of/bundle")     # after os.chdir there: relative paths mean the bundle
    plan = bundle.compile(config, cgroups.hierarchies(), Wish())

The engine's own containers have no hooks; their `plan.py` refuses them by name, and here their steps are put where they
belong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from shimd.container import borrowed, home, hooks, identity, root, seccomp, waiting
from shimd.container.making import Operation
from shimd.container.plan import Plan, compile_plan
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux.cgroups import Hierarchy
from shimd.spec import text
from shimd.spec.config import Config, Hooks, Process
from shimd.spec.errors import SpecError
from shimd.spec.validate import Tell, load

NO_PROCESS = Process(cwd="/", args=("a process",))


class Wish(NamedTuple):
    """What the command line says about a container beside its config."""

    pivot: bool = True
    keyring: bool = True


def read(bundle: str, tell: Tell | None = None, name: str = "config.json") -> tuple[Config, Mapping[str, Any]]:
    """The config of the bundle, and the document that it was. RuntimeTrouble says what is wrong where.

    `name` may be another file of the bundle, or any by its absolute path.
    """
    path = os.path.join(bundle, name)
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
    return _absolute(with_process(config), bundle), document


def with_process(config: Config) -> Config:
    """A config without a process can be created, and an exec can be in it; what cannot be done is to start it.

    (config.md, "Process": REQUIRED when start is called.) It gets one that says so.
    """
    return config._replace(process=NO_PROCESS) if config.process is None else config


def _absolute(config: Config, bundle: str) -> Config:
    """With the root as an absolute path: it goes into the state."""
    return config._replace(root=config.root._replace(path=os.path.normpath(os.path.join(bundle, config.root.path))))


def compile(config: Config, hierarchies: list[Hierarchy], wish: Wish) -> Plan:
    """The plan of a container that stands alone. RuntimeTrouble for what cannot be had."""
    process = config.process
    assert process is not None
    if not os.path.isdir(config.root.path):
        raise RuntimeTrouble(Trouble("use", f"root {config.root.path}", "no such directory", errno=2))
    engines = engines_plan(config, hierarchies)
    if process is NO_PROCESS:
        return engines._replace(
            rooting=tuple(_rooting(engines.rooting, config, wish)),
            process=(waiting.Await((), waiting.NothingToRun()),),
        )
    *steps, last = waiting.without_shim(engines.process, keyring=wish.keyring)
    assert isinstance(last, identity.Exec | seccomp.ConfinedExec)
    find = waiting.FindProgram(process.args[0], waiting.search_path(process.env))
    if home.wanted(process.env):
        steps.insert(0, home.FindHome(process.user.uid))
    return engines._replace(
        rooting=tuple(_rooting(engines.rooting, config, wish)),
        process=(*steps, find, waiting.Await(config.hooks.start_container, last, process.env)),
    )


def engines_plan(config: Config, hierarchies: list[Hierarchy]) -> Plan:
    """What an engine's container of this config would be: all that an exec has to know."""
    return compile_plan(config._replace(hooks=Hooks()), hierarchies, stdin=True, standalone=True)


def _rooting(steps: tuple[Operation, ...], config: Config, wish: Wish) -> list[Operation]:
    found: list[Operation] = []
    for step in steps:
        if isinstance(step, root.PivotRoot | borrowed.ChangeRoot):
            found += hooks.before_pivot(config.hooks)
            if not wish.pivot and isinstance(step, root.PivotRoot):
                found.append(root.DropKernelViews())
                step = root.MoveRoot()
        found.append(step)
    return found
