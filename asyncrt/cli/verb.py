"""What a verb is, and which there are. `asyncrt --help` reads this table and loads none of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places


class Verb(NamedTuple):
    """One verb of the command line; its module holds it as VERB.

    `least` and `most` bound the words that are no flags (-1: no bound). `stop`: flags end at the first of
    them. `failure` is the exit code of an error: docker's 125 for run, create and exec, else 1; with `own`
    codes, an error's own code is used instead.
    """

    usage: str
    run: Callable[[Words, Places], int]
    flags: tuple[Flag, ...] = ()
    least: int = 0
    most: int = -1
    stop: bool = False
    failure: int = 1
    own: bool = False
    more: str = ""


GROUPS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Start",
        {
            "run": "Create and start a container, or N at once",
            "create": "Create a container without starting it",
            "start": "Start created containers",
            "exec": "Run one more process in a running container",
            "attach": "Put our terminal or stdio in front of a running container",
        },
    ),
    (
        "Watch",
        {
            "ps": "List containers",
            "inspect": "Show records with state, timeline and exit, as JSON",
            "logs": "Show what a container wrote",
            "wait": "Wait for containers to end and print their exit codes",
            "events": "Follow what happens",
            "stats": "Show what containers use",
            "top": "List the processes of a container",
        },
    ),
    (
        "Steer and end",
        {
            "pause": "Stop every process of containers for a while",
            "unpause": "Let paused containers go on",
            "update": "Change the limits of containers",
            "cp": "Copy files between a container and this machine",
            "diff": "Show what a container changed against its image",
            "export": "Write a container's tree as a tar",
            "kill": "Send a signal",
            "stop": "SIGTERM, then SIGKILL after a grace period",
            "rm": "Remove containers",
        },
    ),
    (
        "Images",
        {
            "pull": "Fetch images from registries",
            "push": "Send images to registries",
            "images": "List images",
            "tag": "Give an image one more name",
            "rmi": "Forget names of images, and what nothing needs any more",
            "load": "Take images from an archive",
            "save": "Write images into an archive",
            "copy": "Copy an image between registries, layouts, archives and directories",
            "unpack": "Make a bundle of an image that OCI runtimes run",
            "bundle": "Write config.json of an image for a rootfs that is there",
            "login": "Try credentials at a registry and keep them",
            "logout": "Forget the credentials of a registry",
            "commit": "Make an image of a container",
            "import": "Make an image of a tar",
            "history": "Show the steps that an image was made in",
            "image": "These verbs by docker's other names, and inspect and prune",
        },
    ),
    (
        "Engine",
        {
            "info": "Show the supervisor, its places and counts",
            "version": "Show the versions of client and supervisor",
            "daemon": "Run the supervisor in the foreground, or stop it",
        },
    ),
)

VERBS: dict[str, str] = {verb: about for _, group in GROUPS for verb, about in group.items()}


# Verbs in two words: the second one's module, and what it is about.
SUBVERBS: dict[str, dict[str, tuple[str, str]]] = {
    "image": {
        "ls": ("images", VERBS["images"]),
        "inspect": ("image_inspect", "Show documents of images, as JSON"),
        "history": ("history", VERBS["history"]),
        "rm": ("rmi", VERBS["rmi"]),
        "prune": ("image_prune", "Forget images that nobody needs"),
        "tag": ("tag", VERBS["tag"]),
        "pull": ("pull", VERBS["pull"]),
        "push": ("push", VERBS["push"]),
        "save": ("save", VERBS["save"]),
        "load": ("load", VERBS["load"]),
        "import": ("import", VERBS["import"]),
    },
}


def about(name: str) -> str:
    """What a verb of one or two words does."""
    first, _, second = name.partition(" ")
    return SUBVERBS[first][second][1] if second else VERBS[first]


def load(name: str) -> Verb:
    """The verb of that name, from VERBS or, in two words, SUBVERBS."""
    first, _, second = name.partition(" ")
    module = SUBVERBS[first][second][0] if second else first
    verb: Verb = importlib.import_module(f"asyncrt.cli.{module}").VERB
    return verb
