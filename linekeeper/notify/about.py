"""What messages that are about no incident are about, and which Slack channel takes each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import SlackConfig
from linekeeper.notify.routing import DEFAULT, Concerned, RuleSubject, route
from linekeeper.store.engine import Store, chunked
from linekeeper.store.tables import Connection, Customer, NoticeMessage

_AT_ONCE = 5_000


async def channels_of_messages(
    store: Store, payloads: Sequence[Mapping[str, Any]], channels: Mapping[str, SlackConfig]
) -> list[str]:
    """The channel of each message that is about no incident; a thread stays where it began."""
    said = [payload.get("slack_channel") for payload in payloads]
    if len(channels) < 2 or all(said):
        return [str(name or DEFAULT) for name in said]
    threads = {str(payload["thread"]) for payload in payloads if payload.get("thread")}
    begun: set[tuple[str, str]] = set()
    async with store.read() as session:
        for chunk in chunked(sorted(threads), _AT_ONCE):
            rows = await session.execute(_BEGUN, {"subjects": chunk})
            begun.update((subject, channel) for subject, channel in rows)
        fitting = [route(about, channels) for about in await about_messages(session, payloads)]
    names = []
    for name, payload, fits in zip(said, payloads, fitting, strict=True):
        thread = str(payload.get("thread"))
        known = (each for each, channel in channels.items() if (thread, channel.channel) in begun)
        names.append(str(name or next(known, fits)))
    return names


_BEGUN = select(col(NoticeMessage.subject), col(NoticeMessage.channel)).where(
    col(NoticeMessage.subject).in_(bindparam("subjects", expanding=True))
)
_Row = TypeVar("_Row", Connection, Customer)


async def _by_id(session: AsyncSession, table: type[_Row], ids: Iterable[Any]) -> dict[Any, _Row]:
    rows: dict[Any, _Row] = {}
    for chunk in chunked(sorted({str(each) for each in ids if each}), _AT_ONCE):
        found = await session.scalars(select(table).where(col(table.id).in_(chunk)))
        rows |= {row.id: row for row in found}
    return rows


async def about_messages(
    session: AsyncSession, payloads: Sequence[Mapping[str, Any]]
) -> list[RuleSubject]:
    """What messages that are about no incident are about, as their writers said."""
    abouts = [payload.get("about") or {} for payload in payloads]
    ids = [about.get("connection_id") for about in abouts]
    connections = await _by_id(session, Connection, ids)
    about_whom = [connections.get(each) for each in ids]
    owners = [
        connection.customer_id if connection else about.get("customer_id")
        for about, connection in zip(abouts, about_whom, strict=True)
    ]
    customers = await _by_id(session, Customer, owners)
    return [
        RuleSubject((str(about.get("topic", "")),), concerned=_concerned(connection, customer))
        for about, connection, customer in zip(
            abouts, about_whom, map(customers.get, owners), strict=True
        )
    ]


def _concerned(connection: Connection | None, customer: Customer | None) -> list[Concerned]:
    if connection is None and customer is None:
        return []
    return [
        Concerned(
            owner=(customer.owner or "") if customer else "",
            customers=(customer.name, customer.slug) if customer else (),
            tags=tuple(connection.tags) if connection else (),
            provider=connection.provider if connection else "",
        )
    ]
