"""Ends what `linekeeper up` started, should `up` itself be killed. Run as a script of its own.

`up` holds the other end of this process's standard input and writes the number of a process group
when it starts and again when it has ended. When that end closes, however `up` died, whatever is
left gets SIGTERM, then SIGKILL. Prefect's worker puts flow runs into sessions of their own, so on
Linux processes are also known by a mark in the environment they inherited. Only the standard
library: it starts in milliseconds.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 2.5


def marked(mark: bytes) -> list[int]:
    """The processes whose environment holds `mark` (`NAME=value`); none where /proc is missing."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                processes.append(int(entry.name))
    return processes


def signal_all(number: int, groups: set[int], mark: bytes) -> bool:
    """Send `number` (0 only asks) to the groups and the marked; returns whether any was there."""
    there = False
    for group in groups:
        with suppress(OSError):
            os.killpg(group, number)
            there = True
    for process in marked(mark):
        with suppress(OSError):
            os.kill(process, number)
            there = True
    return there


def main() -> None:
    """Wait for the end of `up`, then end the rest."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark = sys.argv[1].encode()
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line)
        groups.symmetric_difference_update({group})
    if not signal_all(signal.SIGTERM, groups, mark):
        return
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.1)
        if not signal_all(0, groups, mark):
            return
    signal_all(signal.SIGKILL, groups, mark)


if __name__ == "__main__":
    main()
