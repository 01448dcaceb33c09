"""Which processes have the database open, with which key each encrypts, and who has ended."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import bindparam, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from linekeeper.clock import token_bytes
from linekeeper.groups import end_task
from linekeeper.store.engine import Store, insert_or_update
from linekeeper.store.tables import OpenProcess
from linekeeper.store.types import UtcDateTime, from_row, table_of

SIGN_SECONDS = 60.0
"""Between two signs of life of a process."""
LOOK_SECONDS = 1.0
"""Between two looks whether those have ended that are waited for."""
SILENT_AFTER = timedelta(minutes=3)
FORGOTTEN_AFTER = timedelta(hours=1)
"""A process that is silent for longer has ended without saying so; until then it may go on."""
_TROUBLE = (SQLAlchemyError, OSError)
_PROCESSES = table_of(OpenProcess)
_FORGET = delete(_PROCESSES).where(_PROCESSES.c.at < bindparam("before", type_=UtcDateTime))
_ENDED = delete(_PROCESSES).where(_PROCESSES.c.owner == bindparam("ended"))
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatabaseProcess:
    """A process that has the database open."""

    kind: str
    """`receiver`, `consumer`, `flow run` or `command`."""
    owner: str
    host: str | None
    process_id: int | None
    """None where the version before says that it lives."""
    is_silent: bool
    """It gives no sign of life: it was killed, or it hangs and may go on."""
    at: datetime
    """Its last sign of life."""

    def __str__(self) -> str:
        silent = f", without a sign of life since {self.at:%H:%M:%S} UTC" if self.is_silent else ""
        if self.host is None:
            return f"{self.kind} (process {self.owner}{silent})"
        return f"{self.kind} on {self.host} (process {self.process_id}{silent})"


def new_owner() -> str:
    """A name for this process in leases, claims and signs of life."""
    return f"{socket.gethostname()}:{os.getpid()}:{token_bytes(4).hex()}"


@asynccontextmanager
async def registered(store: Store, owner: str, kind: str) -> AsyncIterator[None]:
    """Within the block others can see that `owner` has the database open, and with which key.

    What can't be written at the beginning raises; a sign of life that fails is tried again.
    """
    await _sign(store, owner, kind, forgetting=True)
    signing = asyncio.create_task(_keep_signing(store, owner, kind), name="signs of life")
    try:
        yield
    finally:
        try:
            await end_task(signing)
        finally:
            with suppress(*_TROUBLE):  # then it is forgotten in time
                async with store.write() as session:
                    await session.execute(_ENDED, {"ended": owner})


async def read_writers_under_other_keys(store: Store) -> list[DatabaseProcess]:
    """Every process that has the database open and encrypts with another key than we do.

    One that was killed is left out where that is certain; else it may hang, and go on.
    """
    async with store.read() as session:
        now = await store.clock(session)
        rows = await session.scalars(
            select(OpenProcess)
            .where(
                col(OpenProcess.key) != store.cipher.first_fingerprint,
                col(OpenProcess.at) > now - FORGOTTEN_AFTER,
            )
            .order_by(col(OpenProcess.kind), col(OpenProcess.owner))
        )
        return [
            from_row(DatabaseProcess, row, is_silent=now - row.at > SILENT_AFTER)
            for row in rows
            if not has_ended(row.process_id, row.life)
        ]


async def wait_until_ended(store: Store, *, seconds: float) -> Sequence[DatabaseProcess]:
    """Wait for the writers under other keys, at most `seconds`; returns those that remain."""
    deadline = asyncio.get_running_loop().time() + seconds
    while writers := await read_writers_under_other_keys(store):
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            break
        await asyncio.sleep(min(left, LOOK_SECONDS))
    return writers


async def _keep_signing(store: Store, owner: str, kind: str) -> None:
    while True:
        await asyncio.sleep(SIGN_SECONDS)
        try:
            await _sign(store, owner, kind)
        except _TROUBLE as error:
            _log.warning("no sign of life could be written: %s", type(error).__name__)


async def _sign(store: Store, owner: str, kind: str, *, forgetting: bool = False) -> None:
    key = store.cipher.first_fingerprint
    async with store.write() as session:
        now = await store.clock(session)
        if forgetting:  # who has ended without saying so
            await session.execute(_FORGET, {"before": now - FORGOTTEN_AFTER})
        row = {"owner": owner, "kind": kind, "key": key, "since": now, "at": now}
        row |= {"host": socket.gethostname(), "process_id": os.getpid(), "life": life_of_this()}
        await insert_or_update(store, session, OpenProcess, [row], key=["owner"], update=["at"])


_PROC = Path("/proc")
_ENDED_STATES = ("Z", "X")
"""States of a process that does nothing any more, and waits for its parent to take note."""


def life_of_this() -> str | None:
    """What tells this process from all others of its id; None where the kernel says nothing."""
    scope, begun = _scope(), _state_of(os.getpid())
    return None if scope is None or begun is None else f"{scope} {begun[1]}"


def has_ended(process_id: int | None, life: str | None) -> bool:
    """Whether the process with this id and `life` has ended beyond doubt, by what the kernel says.

    Only of one in the same namespace of process ids, since the same start of the machine. Of all
    others nothing can be said: a name of a host may be that of several, and a container's ids are
    its own.
    """
    scope, _, begun = (life or "").rpartition(" ")
    if process_id is None or process_id <= 0 or not scope or scope != _scope():
        return False
    try:
        os.kill(process_id, 0)  # it asks only; `/proc` may hide what belongs to others
    except ProcessLookupError:
        return True
    except OSError:
        return False
    state = _state_of(process_id)
    return state is not None and (state[0] in _ENDED_STATES or state[1] != begun)


def _scope() -> str | None:
    """The start of this machine, and this process's namespace of ids."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _state_of(process_id: int) -> tuple[str, str] | None:
    """The state of a process, and when it began, in ticks since the machine did."""
    try:
        said = (_PROC / str(process_id) / "stat").read_text()
    except OSError:
        return None
    fields = said.rpartition(")")[2].split()  # its name may have blanks and brackets
    return (fields[0], fields[19]) if len(fields) > 19 else None
