"""The proof at length:   python -m tests.oom [--each N] [--wave N]        (as root)"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests import rootfs
from tests.engine import Engine, closed
from tests.oom.fates import FATES, begin, end, judge
from tests.oom.fates import fate_of as fate


def prove(engine: Engine, image: str, each: int, wave: int) -> list[str]:
    """What was wrong. As many are short of memory as are not; `wave` containers at once."""
    wrong: list[str] = []
    begun, done = time.monotonic(), 0
    while done < 2 * each:
        since = int(engine.json("info")["last_event"])
        count = min(wave, 2 * each - done)
        ids = begin(engine, image, count)
        wrong += judge(engine, ids, end(engine, ids), since)
        engine.cli("rm", "--force", "--all", check=True, timeout=300)
        done += count
        short = sum(fate(index).short for index in range(count))
        print(f"{done} of {2 * each} containers, {short} of {count} short of memory, {len(wrong)} wrong", flush=True)
    print(f"{time.monotonic() - begun:.1f} s")
    return wrong


def main() -> int:
    """0 if everything was told as it was."""
    parser = argparse.ArgumentParser(prog="python -m tests.oom", description=__doc__)
    parser.add_argument("--each", type=int, default=1000, help="so many that are short of memory, and that are not")
    parser.add_argument("--wave", type=int, default=400, help="containers at once")
    wanted = parser.parse_args()
    if wanted.each % (len(FATES) // 2) or wanted.wave % len(FATES):
        parser.error(f"--each has to be a multiple of {len(FATES) // 2}, --wave of {len(FATES)}")
    with tempfile.TemporaryDirectory(prefix=f"asyncrt-{os.getpid()}-rootfs-", dir="/tmp") as place:
        Path(place).chmod(0o755)
        image = f"rootfs:{rootfs.build(Path(place))}"
        engine = Engine()
        try:
            wrong = prove(engine, image, wanted.each, wanted.wave)
        finally:
            closed(engine)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
