"""`python looping.py PYTHON -m MODULE …`: that part, which a signal sends into a busy loop.

From SIGUSR1 to SIGUSR2 its event loop does nothing else, as if a step of it never came to its end.
"""

import runpy
import signal
import sys
from types import FrameType

BEGIN, END = signal.SIGUSR1, signal.SIGUSR2
_looping: list[int] = []


def _loop(number: int, _frame: FrameType | None) -> None:
    _looping.append(number)
    while _looping:
        pass


def _go_on(_number: int, _frame: FrameType | None) -> None:
    _looping.clear()


if __name__ == "__main__":
    signal.signal(BEGIN, _loop)
    signal.signal(END, _go_on)
    _python, _m, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
