"""What each connection was configured to be read for, as everybody reads it who has to obey it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.store.engine import chunked
from linekeeper.store.tables import ConnectionSetting

Settings = Mapping[str, ConnectionSetting]
"""Those of one connection by entity; empty where it was never configured."""
_AT_ONCE = 2_000


_SETTINGS = (
    select(ConnectionSetting)
    .where(col(ConnectionSetting.connection_id).in_(bindparam("ids", expanding=True)))
    .order_by(col(ConnectionSetting.connection_id), col(ConnectionSetting.entity))
)


async def load_settings(session: AsyncSession, ids: Iterable[str]) -> dict[str, Settings]:
    """The settings of those of the connections `ids` that were configured."""
    wanted = list(ids)
    settings: defaultdict[str, dict[str, ConnectionSetting]] = defaultdict(dict)
    for chunk in chunked(wanted, _AT_ONCE):
        for row in await session.scalars(_SETTINGS, {"ids": chunk}):
            settings[row.connection_id][row.entity] = row
    return dict(settings)


def configured(app: AppConfig, settings: Settings | None) -> AppConfig:
    """`app` as it holds for a connection with these settings: its entities, whose bodies are kept,
    where it is forwarded to.

    Pure. Entities stand in the order of the app's; others follow.
    """
    if not settings:
        return app
    known = [entity for entity in app.entities if entity in settings]
    entities = (*known, *(entity for entity in settings if entity not in known))
    bodies = tuple(entity for entity in entities if _keeps(app, settings[entity]))
    target = next((row.forward_to for row in settings.values() if row.forward_to), None)
    update = {"entities": entities, "bodies": bodies, "forward_to": target}
    return app.model_copy(update=update)


def cadence_of(settings: Settings | None, entity: str, default: timedelta) -> timedelta:
    """How long `entity` may go unread; `default` where nothing was configured. Pure."""
    row = (settings or {}).get(entity)
    minutes = row.cadence_minutes if row is not None else None
    return default if minutes is None else timedelta(minutes=minutes)


def _keeps(app: AppConfig, row: ConnectionSetting) -> bool:
    return row.entity in app.bodies if row.keep_bodies is None else row.keep_bodies
