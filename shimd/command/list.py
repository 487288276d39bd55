"""list: every container below --root."""

import os

from shimd.command import status
from shimd.command.context import Context
from shimd.command.flags import Misuse
from shimd.command.shelf import Shelf, ids
from shimd.command.state import told
from shimd.errors import RuntimeTrouble
from shimd.spec import text

COLUMNS = (("ID", "id"), ("PID", "pid"), ("STATUS", "status"), ("BUNDLE", "bundle"), ("CREATED", "created"))


def main(context: Context) -> int:
    form = context.values["format"]
    if form not in ("table", "json"):
        raise Misuse(f"invalid format option {form!r}: table or json")
    found = []
    for id in ids(context.root):
        try:
            shelf = Shelf(context.root, id)
            record = shelf.read()
            found.append(told(record, status.of(shelf, record)))
        except RuntimeTrouble as error:
            if error.trouble.errno != 2:  # removed meanwhile, or in its very first moment
                context.journal.warn(str(error))
    if context.values["quiet"]:
        os.write(1, "".join(f"{entry['id']}\n" for entry in found).encode())
    elif form == "json":
        os.write(1, (text.write(found) + "\n").encode())  # one line, as runc's callers read it
    else:
        columns = (*COLUMNS, ("OWNER", "owner"))
        rows = [[title for title, _ in columns], *([str(entry[name]) for _, name in columns] for entry in found)]
        os.write(1, table(rows).encode())
    return 0


def table(rows: list[list[str]]) -> str:
    """Columns as wide as their widest word."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ("   ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)
