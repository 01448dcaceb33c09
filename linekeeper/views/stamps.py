"""Which pages don't show any more what is so: found in a few statements, however many there are.

A page's stamp is made of all that it shows. It is kept beside the page when that is written; a
stamp that is another now means that the page has to be written again.
"""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import func, select
from sqlmodel import col

from linekeeper.access.pending import kept_logins
from linekeeper.config import Configuration
from linekeeper.health.token_missing import is_token_missing
from linekeeper.notify.channels import ARTIFACTS
from linekeeper.notify.merged import FLEET
from linekeeper.notify.view import Links
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.lists import count_rows
from linekeeper.store.tables import (
    AppState,
    Audit,
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    NoticeMessage,
    Observation,
    Transition,
)
from linekeeper.sweep.webhooks import TOPIC
from linekeeper.tokens.stored import has_usable_token
from linekeeper.views.audit import ISSUED
from linekeeper.views.fleet_queries import TROUBLES_SHOWN, in_trouble, unchecked_since
from linekeeper.views.managed import count_managed, name_rules
from linekeeper.views.parts import artifact_key
from linekeeper.views.windows import windows_in_force

MOST_WITHOUT_PAGE = 50
"""Members of open incidents that get their first page at once; the others as these are over."""
_SHOWN = (
    *("name", "slug", "makini_key", "makini_id", "customer_id", "app", "provider"),
    *("hosting", "tier", "tags", "setup", "health", "health_since"),
    *("list_status", "sync_status", "evidence", "mode", "told_apart_by"),
)
_AT_ONCE = 5_000


class Stamp(NamedTuple):
    """What a connection's page would show now; its slug is part of the page's key."""

    slug: str
    value: str


async def kept_stamps(store: Store, keys: Collection[str]) -> dict[str, str | None]:
    """The stamps with which those of the pages `keys` that exist were written."""
    kept: dict[str, str | None] = {}
    wanted = list(keys)
    async with store.read() as session:
        for chunk in chunked(wanted, _AT_ONCE):
            rows = await session.execute(
                select(col(NoticeMessage.subject), col(NoticeMessage.stamp)).where(
                    col(NoticeMessage.channel) == ARTIFACTS,
                    col(NoticeMessage.subject).in_(chunk),
                )
            )
            kept |= {row[0]: row[1] for row in rows}
    return kept


async def connections_with_pages(store: Store) -> list[str]:
    """The connections that have a page, and the newest of those in trouble that need one."""
    pages = (
        select(col(NoticeMessage.subject))
        .where(col(NoticeMessage.channel) == ARTIFACTS)
        .scalar_subquery()
    )
    key = artifact_key("") + col(Connection.slug)
    async with store.read() as session:
        have = await session.scalars(select(col(Connection.id)).where(key.in_(pages)))
        need = await session.scalars(
            select(col(Connection.id))
            .join(IncidentConnection, col(IncidentConnection.connection_id) == col(Connection.id))
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .where(
                col(IncidentConnection.left_at).is_(None),
                col(Incident.resolved_at).is_(None),
                key.not_in(pages),
            )
            .order_by(col(IncidentConnection.joined_at).desc())
            .limit(MOST_WITHOUT_PAGE)
        )
        return list(dict.fromkeys([*need, *have]))


async def connection_stamps(
    store: Store,
    configuration: Configuration,
    ids: Collection[str],
    links: Links,
    *,
    now: datetime,
) -> dict[str, Stamp]:
    stamps: dict[str, Stamp] = {}
    wanted = list(ids)
    last = {
        table: select(col(table.id))
        .where(col(table.connection_id) == col(Connection.id))
        .order_by(col(table.at).desc(), col(table.id).desc())
        .limit(1)
        .correlate(Connection)
        .scalar_subquery()
        for table in (Transition, Observation)
    }
    async with store.read() as session:
        for batch in chunked(wanted, _AT_ONCE):
            incidents = await session.execute(
                select(
                    col(IncidentConnection.connection_id),
                    col(Incident.id),
                    col(Incident.title),
                    col(Incident.opened_at),
                    col(Incident.reopened_at),
                    col(Incident.acknowledged_at),
                    col(Incident.acknowledged_by),
                )
                .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
                .where(
                    col(IncidentConnection.connection_id).in_(batch),
                    col(IncidentConnection.left_at).is_(None),
                    col(Incident.resolved_at).is_(None),
                )
                .order_by(col(Incident.id))
            )
            open_of = defaultdict(list)
            for connection_id, *incident in incidents:
                open_of[connection_id].append(incident)
            rows = await session.execute(
                select(
                    Connection,
                    col(Customer.name),
                    col(Customer.owner),
                    col(Customer.critical),
                    has_usable_token(now, configuration.apps),
                    *last.values(),
                )
                .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
                .where(col(Connection.id).in_(batch))
            )
            kept = await kept_logins(session, batch)
            for connection, *others in rows:
                app = configuration.apps.get(connection.app)
                stamps[connection.id] = Stamp(
                    connection.slug,
                    _digest(
                        now.date(),  # the picture of the time since
                        links.deployments,
                        links.artifact(FLEET),
                        app.mode if app else None,
                        *(getattr(connection, name) for name in _SHOWN),
                        connection.judged.get("degraded_by"),
                        is_token_missing(connection.judged),
                        *others,
                        open_of[connection.id],
                        kept.get(connection.id),
                    ),
                )
    return stamps


async def fleet_stamp(
    store: Store, configuration: Configuration, links: Links, *, now: datetime
) -> str:
    """The stamp of the pages `fleet` and `audit`; they are also written once an hour."""
    axes = (
        col(Connection.app),
        col(Connection.setup),
        col(Connection.health),
        col(Connection.evidence),
    )
    async with store.read() as session:
        counts = await session.execute(select(*axes, func.count()).group_by(*axes).order_by(*axes))
        states = await session.execute(
            select(col(AppState.app), col(AppState.last_list_at), col(AppState.left_out)).order_by(
                col(AppState.app)
            )
        )
        incidents = await session.execute(
            select(col(Incident.id), col(Incident.revision), col(Incident.acknowledged_at))
            .where(col(Incident.resolved_at).is_(None))
            .order_by(col(Incident.id))
        )
        newest = [
            await session.scalar(select(col(table.id)).order_by(col(table.id).desc()).limit(1))
            for table in (Transition, Observation, Connection)
        ]
        done = await session.scalar(
            select(func.max(col(Audit.at))).where(
                col(Audit.action) != ISSUED, col(Audit.at) > now - timedelta(hours=1)
            )
        )
        without_token = await count_rows(
            session,
            Connection,
            col(Connection.setup) != "disconnected",
            ~has_usable_token(now, configuration.apps),
        )
        troubles = await session.execute(
            select(
                col(Connection.id),
                col(Connection.name),
                col(Connection.last_checked_at),
                col(Customer.name),
                col(Customer.critical),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(in_trouble())
            .order_by(col(Connection.health_since).desc(), col(Connection.id))
            .limit(TROUBLES_SHOWN)
        )
        return _digest(
            f"{now:%Y-%m-%d %H}",
            *sorted((app.name, app.mode) for app in configuration.apps.values()),
            sorted((await count_managed(session, configuration.apps)).items(), key=itemgetter(0)),
            await name_rules(session),
            *(tuple(row) for rows in (counts, states, incidents, troubles) for row in rows),
            *newest,
            done,
            without_token,
            await unchecked_since(session),
            await windows_in_force(session, now),
            links.deployments,
        )


async def webhooks_stamp(store: Store) -> str:
    """The stamp of the page `webhooks`: what people are notified of leads there."""
    async with store.read() as session:
        rows = await session.execute(
            select(col(Incident.id), col(Incident.revision))
            .where(col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None))
            .order_by(col(Incident.id))
        )
        return _digest(*(tuple(row) for row in rows))


def _digest(*shown: object) -> str:
    return sha256(repr(list(shown)).encode()).hexdigest()[:16]
