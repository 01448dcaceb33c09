"""What `linekeeper up` says of a fleet that no sweep has listed yet."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store, StoreError
from linekeeper.store.lists import count_rows
from linekeeper.store.tables import AppState, Connection
from linekeeper.text import counted

LOOK_SECONDS = 1.0
_TROUBLE = (SQLAlchemyError, OSError, StoreError, KeyProblem)


async def is_listed(settings: Settings) -> bool:
    """Whether a list of connections came already."""
    async with Store.open(settings) as store:
        return await _listed(store) is not None


def before_it(*, schedules: bool) -> str:
    """What is said with `ready` before there is one. Pure."""
    if schedules:
        return "no connection is listed yet: the first sweep begins now"
    return "no connection is listed yet, and schedules are paused: start health-sweep, or resume it"


async def say_when_listed(settings: Settings, say: Callable[[str], None]) -> None:
    """Say how many connections the first sweep has listed, once it has."""
    async with Store.open(settings) as store:
        while True:
            with suppress(*_TROUBLE):
                if (connections := await _listed(store)) is not None:
                    say(f"the first sweep has listed {counted(connections, 'connection')}")
                    return
            await asyncio.sleep(LOOK_SECONDS)


async def _listed(store: Store) -> int | None:
    """How many connections are known; None before a list of any app came."""
    async with store.read() as session:
        if not await count_rows(session, AppState, col(AppState.last_list_at).is_not(None)):
            return None
        return await count_rows(session, Connection)
