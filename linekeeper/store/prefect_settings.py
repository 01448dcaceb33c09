"""What operators set in the Prefect UI, remembered: it comes back when Prefect's database is lost.

Encrypted, since notification blocks hold addresses that are secrets.
`tasks.prefect_adapter.settings` takes it from Prefect and puts it back; here it is plain JSON.
"""

from datetime import datetime
from typing import Any

import orjson

from linekeeper.store.engine import Store, insert_or_update
from linekeeper.store.tables import AppSetting

_NAME = "prefect-desk"


async def load_prefect_settings(store: Store) -> dict[str, Any] | None:
    """What was remembered last. Raises `KeyProblem` if it can't be decrypted."""
    async with store.read() as session:
        row = await session.get(AppSetting, _NAME)
    if row is None:
        return None
    known: dict[str, Any] = orjson.loads(store.cipher.decrypt(row.value))
    return known


async def save_prefect_settings(store: Store, settings: dict[str, Any], *, now: datetime) -> bool:
    """Remember `settings`; returns whether it is different from before."""
    if await load_prefect_settings(store) == settings:
        return False
    value = store.cipher.encrypt(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS).decode())
    row = {"name": _NAME, "value": value, "updated_at": now}
    async with store.write() as session:
        await insert_or_update(
            store, session, AppSetting, [row], key=["name"], update=["value", "updated_at"]
        )
    return True
