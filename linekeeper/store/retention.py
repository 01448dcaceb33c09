"""How far back the database goes: what housekeeping has removed, written down by it.

How long things are kept is set in the deployment `housekeeping`, in Prefect. What was removed
indeed is known here, with Prefect down too.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.store.cipher import KeyProblem
from linekeeper.store.engine import Store, insert_or_update
from linekeeper.store.tables import AppSetting

Kind = Literal["traces", "outbox", "bodies"]
Retention = Mapping[str, datetime]
"""The time, by kind, before which everything was removed once it was settled."""
_NAME = "retention"


async def load_retention(store: Store, session: AsyncSession) -> Retention:
    """What was removed so far; a kind that is absent is whole."""
    row = await session.get(AppSetting, _NAME)
    if row is None:
        return {}
    try:
        written = orjson.loads(store.cipher.decrypt(row.value))
    except KeyProblem:
        return {}
    return {kind: datetime.fromisoformat(at) for kind, at in written.items()}


async def note_removed(store: Store, removed: Mapping[Kind, datetime], *, now: datetime) -> None:
    """Write down that everything from before these times was removed. Times only grow."""
    async with store.write() as session:
        known = await load_retention(store, session)
        times = dict(known)
        for kind, at in removed.items():
            times[kind] = max(at, known.get(kind, at))
        if times == known:
            return
        text = orjson.dumps({kind: at.isoformat() for kind, at in times.items()}).decode()
        row = {"name": _NAME, "value": store.cipher.encrypt(text), "updated_at": now}
        await insert_or_update(
            store, session, AppSetting, [row], key=["name"], update=["value", "updated_at"]
        )
