"""`python looping.py PYTHON -m MODULE …`: that part, which a signal sends into a busy loop.

From SIGUSR1 to SIGUSR2 its event loop does nothing else, as if a step of it never came to its end.
Once it has worked so long that everybody can see it, it lets others have the processor.
"""

import runpy
import signal
import sys
import time
from types import FrameType

BEGIN, END = signal.SIGUSR1, signal.SIGUSR2
SEEN_SECONDS = 2
"""Of processor time."""
_looping: list[int] = []


def _loop(number: int, _frame: FrameType | None) -> None:
    _looping.append(number)
    seen = time.process_time() + SEEN_SECONDS
    while _looping:
        if time.process_time() > seen:
            time.sleep(0.01)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    _looping.clear()


if __name__ == "__main__":
    signal.signal(BEGIN, _loop)
    signal.signal(END, _go_on)
    _python, _m, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
