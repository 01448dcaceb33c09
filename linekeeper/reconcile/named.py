"""What people asked to read, by the names they gave, and why it can't be."""

from collections.abc import Sequence

from sqlalchemy import case, func, select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config.entities import resolve_entities
from linekeeper.customers.find import find_connection
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.makini import may_call_data
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.modes import app_of
from linekeeper.store.tables import Connection, Credential, Watermark
from linekeeper.text import health_name
from linekeeper.tokens.stored import is_live


class UnknownEntity(Exception):
    """No app reads an entity of that name; the message offers those that are read."""


async def find_connections(store: Store, wanted: Sequence[str] | None) -> list[str] | None:
    """The ids of the connections called `wanted`; None (every one) where none is named.

    Raises `NotFound`.
    """
    names = [name for name in wanted or [] if name.strip()]
    if not names:
        return None
    async with store.read() as session:
        return list(dict.fromkeys([(await find_connection(session, name)).id for name in names]))


async def find_entities(rt: Runtime, wanted: Sequence[str] | None) -> list[str] | None:
    """The entities called `wanted`, in full (`assets` is `eam/assets`); None where none is named.

    One with an area (`eam/locations`) is read though no app is configured to. Raises
    `UnknownEntity`.
    """
    apps = (await rt.configuration()).apps.values()
    known = list(dict.fromkeys(entity for app in apps for entity in app.entities))
    try:
        return resolve_entities(wanted or [], known) or None
    except ValueError as error:
        raise UnknownEntity(str(error)) from None


async def offered_by_nobody(
    rt: Runtime, entities: Sequence[str], connections: Sequence[str] | None
) -> list[str]:
    """Those of `entities` that each of `connections`, or of all, that was asked does not offer."""
    offers = case((col(Watermark.offered), 1), else_=0)
    asked = (
        select(col(Watermark.entity))
        .where(col(Watermark.entity).in_(entities))
        .group_by(col(Watermark.entity))
        .having(func.max(offers) == 0)
        .order_by(col(Watermark.entity))
    )
    if connections is not None:
        asked = asked.where(col(Watermark.connection_id).in_(connections))
    async with rt.store.read() as session:
        return list(await session.scalars(asked))


async def why_not_read(rt: Runtime, connection_id: str) -> str | None:
    """Why the records of a connection may not be read now; None if they may."""
    async with rt.store.read() as session:
        connection = await session.get_one(Connection, connection_id)
        has_token = await session.scalar(
            select(col(Credential.connection_id)).where(
                col(Credential.connection_id) == connection_id, is_live(utcnow())
            )
        )
    app = await rt.app(connection.app)
    if connection.setup not in ESTABLISHED:
        return f"it is {connection.setup}"
    if not may_call_data(connection.health):
        words = health_name(connection.health)
        return f"it is {words}, so its circuit is open; check-connection looks again"
    if app_of(app, connection).manages:
        return None
    if has_token is None:
        return "there is no token for it, and none may be minted (mode observe)"
    if connection.custody != "borrowed":
        return "it is in mode observe, and its token was not lent for reading (POST /api/tokens)"
    return None
