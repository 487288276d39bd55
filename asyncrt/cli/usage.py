"""Help: of the whole, and of one verb."""

from __future__ import annotations

from collections.abc import Sequence

from asyncrt.cli.flags import Flag
from asyncrt.cli.verb import GROUPS, SUBVERBS, Verb, about

GLOBAL = (
    Flag("root", "", "DIR", "images and records (ASYNCRT_ROOT; /var/lib/asyncrt)"),
    Flag("state", "", "DIR", "what a reboot may lose (ASYNCRT_STATE; /run/asyncrt)"),
    Flag("socket", "", "PATH", "the supervisor's socket (ASYNCRT_SOCKET; STATE/asyncrt.sock)"),
    Flag("help", "h", "", "this"),
    Flag("version", "v", "", "the client's version"),
)


def overview() -> str:
    """What `asyncrt --help` prints."""
    lines = ["usage: asyncrt [--root DIR] [--state DIR] [--socket PATH] VERB ...", ""]
    lines += ["Starts hundreds of containers at once, and talks to them."]
    for title, verbs in GROUPS:
        lines += ["", f"{title}:"] + [f"  {verb:<9}{about}" for verb, about in verbs.items()]
    lines += ["", "Before the verb:", *_table(GLOBAL), ""]
    lines += [
        "The first command that needs a supervisor starts one. To begin with:",
        "  asyncrt run host: echo hello",
        "  asyncrt run --count 100 rootfs:/path/of/a/rootfs true",
        "",
        "asyncrt VERB --help tells more.",
    ]
    return "\n".join(lines)


def of_verb(name: str, verb: Verb) -> str:
    """What `asyncrt VERB --help` prints."""
    lines = [f"usage: asyncrt {verb.usage}", "", about(name) + "."]
    if verb.more:
        lines += ["", verb.more.strip("\n")]
    if verb.flags:
        lines += ["", "Flags:", *_table(verb.flags)]
    return "\n".join(lines)


def of_group(name: str) -> str:
    """The verbs of two words that begin so."""
    return "\n".join(f"  {name} {second:<9}{what}" for second, (_, what) in SUBVERBS[name].items())


def _table(flags: Sequence[Flag]) -> list[str]:
    shown = [flag for flag in flags if flag.about]
    left = [f"{f'-{flag.short},' if flag.short else '':<4}--{flag.long} {flag.value}".rstrip() for flag in shown]
    width = max(map(len, left), default=0) + 2
    return [f"  {words:<{width}}{flag.about}" for words, flag in zip(left, shown, strict=True)]
