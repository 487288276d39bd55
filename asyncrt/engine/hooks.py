"""What a supervisor knows of hooks: where they come from, and which a container got. When they run: hooking.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncrt.engine.hookdirs import STAGES, Occasion, injected
from asyncrt.errors import BadRequest
from asyncrt.supervisor.hooks import SECONDS, Function, Runner
from shimd.spec.config import Config, Hook, Hooks

OURS = ("createRuntime", "poststart", "poststop")  # what an embedder may add functions to


class Household:
    """What one supervisor knows of hooks: its directories, the embedder's functions, and what containers got.

    BadRequest for a moment that has no functions.
    """

    def __init__(
        self, directories: Sequence[str] = (), functions: Mapping[str, Sequence[Function]] | None = None
    ) -> None:
        self.directories = tuple(directories)
        self.functions = {moment: tuple(those) for moment, those in (functions or {}).items()}
        for moment in self.functions:
            if moment not in OURS:
                raise BadRequest("add hooks", f'for "{moment}"', "functions do not run there", ", ".join(OURS))
        self.runner = Runner()
        self._of: dict[str, Hooks] = {}

    @property
    def asks(self) -> bool:
        """Does every container stop for the runtime's hooks, whatever the directories say?"""
        return bool(self.functions.get("createRuntime"))

    def inject(self, config: Config, has_volumes: bool) -> Config:
        """With the hooks that apply. Blocks. BadRequest: a file that is not what it should be."""
        if not self.directories or config.process is None:
            return config
        occasion = Occasion(dict(config.annotations), config.process.args[0], has_volumes)
        return config._replace(hooks=injected(self.directories, occasion))

    def keep(self, id: str, hooks: Hooks) -> None:
        """They are this container's until it is started anew."""
        if any(hooks):
            self._of[id] = hooks
        else:
            self._of.pop(id, None)

    def drop(self, id: str) -> None:
        self._of.pop(id, None)

    def due(self, id: str, moment: str) -> tuple[Hook | Function, ...]:
        """The programs, then the functions."""
        programs: tuple[Hook, ...] = getattr(self._of.get(id, Hooks()), STAGES[moment])
        return (*programs, *self.functions.get(moment, ()))

    def patience(self, hooks: Hooks) -> float:
        """Seconds that they may take before the program runs."""
        before = (*hooks.prestart, *hooks.create_runtime, *hooks.create_container, *hooks.start_container)
        limits = sum(float(hook.timeout or SECONDS) for hook in before)
        return limits + SECONDS * len(self.functions.get("createRuntime", ()))
