"""Workers of pytest-xdist that are forked from the process that hands the tests out to them.

Each would import the same: all tests, Linekeeper and Prefect, ten seconds of processor time. Here
it is imported once, before there are workers. In all else they are pytest-xdist's own.
"""

import gc
import importlib
import os
import shutil
import signal
import sys
import threading
from atexit import unregister
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from execnet import gateway_io
from execnet.gateway_base import Popen2IO

from tests.forking import Zygote, end_process, keep
from tests.repetitions import has_none

ROOT = Path(__file__).parents[1]


class Process:
    """A worker's process, as `subprocess.Popen` shows one."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)


def fork_workers(number: int, asked: Iterable[str], marks: str) -> None:
    """Fork so many, which know the tests that were asked for and that `marks` choose; pytest-xdist
    takes them as its own.

    Where threads run, a fork would not have them: then the workers start as they always do.
    """
    gc.disable()  # what is imported stays
    _import_tests(asked, marks)
    _read_constants()
    gc.collect()
    gc.freeze()
    gc.enable()
    if sys.platform != "linux" or threading.active_count() > 1:
        return
    forked: list[tuple[Process, int, int]] = []
    for _ in range(number):
        read, given = os.pipe()
        taken, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            for _process, *ends in forked:
                for descriptor in ends:
                    os.close(descriptor)
            os.close(given)
            os.close(taken)
            _work(read, write)
        os.close(read)
        os.close(write)
        forked.append((Process(pid), given, taken))
    start = gateway_io.Popen2IOMaster

    class Forked(start):  # type: ignore[misc, valid-type]
        """The next of them; a worker that takes the place of a dead one starts anew."""

        def __init__(self, args: Any, execmodel: Any) -> None:
            if not forked:
                super().__init__(args, execmodel)
                return
            self.popen, given, taken = forked.pop(0)
            Popen2IO.__init__(self, os.fdopen(given, "wb"), os.fdopen(taken, "rb"), execmodel)

    vars(gateway_io)["Popen2IOMaster"] = Forked


def sendable(said: Any) -> Any:
    """What a worker can send, where `said` may have text that is no UTF-8: that is escaped."""
    if isinstance(said, str):
        return said.encode("utf-8", "backslashreplace").decode()
    if isinstance(said, dict):
        return {key: sendable(value) for key, value in said.items()}
    if isinstance(said, list | tuple):
        return type(said)(map(sendable, said))
    return said


def _import_tests(asked: Iterable[str], marks: str) -> None:
    for given in asked:
        path = Path(given.partition("::")[0]).resolve()
        files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
        for file in (file for file in files if file == path or not has_none(file, marks)):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            with suppress(Exception):  # each worker says it of its own
                importlib.import_module(name)


def _read_constants() -> None:
    """Hypothesis looks for numbers and words in the text of all modules: once for all workers."""
    with suppress(ImportError):  # another Hypothesis, where each does it
        from hypothesis.internal.conjecture.providers import _get_local_constants

        _get_local_constants()


def _work(read: int, write: int) -> None:
    """Be a worker, to its end: what is said on its standard input tells it all."""
    code = 1
    try:
        unregister(shutil.rmtree)  # the folders that this process made are not the worker's
        keep(Zygote.fork(read, write))  # while this process has no thread
        for number, descriptor in enumerate((read, write)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), sys.__stderr__
        exec(eval(sys.stdin.readline()))  # as `gateway_io.popen_bootstrapline`
        code = 0
    finally:
        end_process(code)
