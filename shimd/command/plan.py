"""plan: print what create and start would do, a line a step, and do nothing."""

import os

from shimd.command.context import Context
from shimd.command.flags import text
from shimd.command.shelf import CONFIG
from shimd.container import bundle
from shimd.errors import RuntimeTrouble, from_oserror
from shimd.linux import cgroups


def main(context: Context) -> int:
    place = os.path.abspath(text(context.values, "bundle") or ".")
    try:
        os.chdir(place)
    except OSError as error:
        raise RuntimeTrouble(from_oserror("enter bundle", place, error)) from None
    name = text(context.values, "config") or CONFIG
    config, _ = bundle.read(place, lambda finding: context.journal.warn(str(finding)), name)
    wish = bundle.Wish(pivot=not context.values["no-pivot"], keyring=not context.values["no-new-keyring"])
    plan = bundle.compile(config, cgroups.hierarchies(), wish)
    os.write(1, "".join(f"{line}\n" for line in plan.describe()).encode())
    return 0
