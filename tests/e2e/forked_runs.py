"""Flow runs that begin in a moment: forked from a process that has imported what each would import.

Of the processor time of a run all but a fifth goes into importing the same again. The house of the
browser tests has this file as the command of its work pool. It is what the worker starts for each
run, and it asks the process that forks; the first also starts that one, which ends with the worker.
That our worker starts `linekeeper.cli.flow_run` itself is shown in `tests/cli`.

Run as a script it needs the standard library alone: it begins, and ends, in milliseconds.
"""

import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
RUN = "linekeeper.cli.flow_run"
PACKAGES = ("tasks",)
"""Whose modules are imported beforehand; the file of a flow is run anew by each run, as ever."""
OF_ONE_RUN = "PREFECT__"
"""Begins the names of variables that are different for each run."""
_LARGEST = 1_000_000


def command(address: Path) -> str:
    """What the worker is to start for each run."""
    return f"{sys.executable} -I -S {__file__} {address}"


def run(address: str) -> NoReturn:
    """Be one run, forked: pass on what it is sent, and end as it ends."""
    peer = _connected(address)
    order = {"words": [RUN], "env": dict(os.environ), "cwd": str(Path.cwd())}
    socket.send_fds(peer, [json.dumps(order).encode()], [0, 1, 2])

    def pass_on(number: int, _frame: FrameType | None) -> None:
        peer.send(str(number).encode())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    code = int(peer.recv(64) or -signal.SIGKILL)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _connected(address: str) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Path(f"{address}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            peer.connect(address)
        except OSError:  # nobody is there, or no longer
            Path(address).unlink(missing_ok=True)
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listening.bind(address)
            listening.listen()
            # With the settings of a run, which are read as Prefect is imported.
            common = {k: v for k, v in os.environ.items() if not k.startswith(OF_ONE_RUN)}
            given = (str(listening.fileno()), str(os.getppid()))
            # The worker reads what this run says until nobody holds the other end any more.
            with Path(f"{address}.log").open("ab") as said:
                subprocess.Popen(
                    [sys.executable, "-m", "tests.e2e.forked_runs", *given],
                    cwd=ROOT,
                    env=common,
                    pass_fds=[listening.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            peer.connect(address)
    return peer


def serve(listening: socket.socket, worker: int) -> None:
    """Fork the runs that are asked for until `worker` has ended, and then end them."""
    from tests.forking import become

    gc.disable()  # what is imported stays
    from linekeeper.cli.flow_run import IMPORTED

    files = [file for package in PACKAGES for file in sorted((ROOT / package).glob("[!_]*.py"))]
    for name in [*IMPORTED, *(f"{file.parent.name}.{file.stem}" for file in files)]:
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()  # a fork takes no thread along
    gc.collect()
    gc.freeze()
    gc.enable()
    waking, woken = os.pipe()
    for end in (waking, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    over = os.pidfd_open(worker)
    running: dict[int, socket.socket] = {}
    while True:
        heard: list[Any] = [listening, waking, over, *running.values()]
        readable, _, _ = select.select(heard, [], [])
        if waking in readable:
            with suppress(BlockingIOError):
                os.read(waking, 4096)
            _reap(running)
        if over in readable:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return
        for pid, peer in running.items():
            if peer in readable:  # where nobody is there any more, it was killed
                with suppress(ProcessLookupError):
                    os.kill(pid, int(peer.recv(64) or signal.SIGKILL))
        if listening not in readable:
            continue
        peer, _ = listening.accept()
        message, standard, _, _ = socket.recv_fds(peer, _LARGEST, 3)
        if not message:  # whoever came was killed before it had asked
            peer.close()
            continue
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (waking, woken, over):
                os.close(descriptor)
            for other in (listening, peer, *running.values()):
                other.close()
            os.setsid()
            become(json.loads(message), standard)
        running[pid] = peer
        for descriptor in standard:
            os.close(descriptor)


def _reap(running: dict[int, socket.socket]) -> None:
    while running:
        pid, ended = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as peer, suppress(OSError):
            peer.send(str(os.waitstatus_to_exitcode(ended)).encode())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    else:
        run(sys.argv[1])
