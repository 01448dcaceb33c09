"""What must hold before `linekeeper up` starts: one `up` a home, free ports, no open door."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from linekeeper.private import close_home, make_private_file
from linekeeper.refusal import UserError
from linekeeper.tls import is_loopback


@contextmanager
def alone_in(home: Path) -> Iterator[None]:
    """Hold the lock of `home` for the block. Raises `UserError` if another `up` has it.

    The lock is the kernel's: however that `up` ended, it is free again. Nobody but its owner gets
    into `home`, or reads what an earlier version left in it.
    """
    close_home(home)
    make_private_file(home / "up.lock")
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            lock.seek(0)
            owner = lock.read().strip()
            raise UserError(
                f"linekeeper up is running already for {home}"
                f"{f' (process {owner})' if owner else ''}: end it first, "
                "or set LINEKEEPER_HOME to another folder"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def is_up(home: Path) -> bool:
    """Whether an `up` runs for `home` now."""
    try:
        with (home / "up.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return True
    return False


def require_free_port(host: str, port: int, setting: str, what: str) -> None:
    """Raise `UserError` unless `what` can listen on `host:port`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            problem = "is taken" if taken else f"can't be used ({error.strerror})"
            fix = f"end what uses it, or set LINEKEEPER_{setting} to a free port"
            raise UserError(f"port {port} on {host} {problem}, {what} needs it: {fix}") from None
        except OverflowError:
            raise UserError(f"LINEKEEPER_{setting}: a port is 1 to 65535, not {port}") from None


def require_auth_or_loopback(host: str, environment: Mapping[str, str]) -> None:
    """Raise `UserError` for a Prefect server that anybody on the network could use."""
    if is_loopback(host) or environment.get("PREFECT_SERVER_API_AUTH_STRING"):
        return
    raise UserError(
        f"LINEKEEPER_PREFECT_HOST is {host}: Prefect's server has no login of its "
        "own, so whoever reaches it runs code here. Set "
        "PREFECT_SERVER_API_AUTH_STRING=user:password, or use 127.0.0.1"
    )
