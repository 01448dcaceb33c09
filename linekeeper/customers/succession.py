"""When a connection takes another's place: what it inherits (DESIGN "A successor inherits").

What is known of the system goes over in the caller's transaction. Its records follow with the
successor's first listing (`reconcile.succession`), which is compared with them.
"""

from collections import Counter
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.distinct_labels import distinguish_labels
from linekeeper.customers.successors import heirs, listed_setup, returned
from linekeeper.store import Store
from linekeeper.store.engine import insert_ignore
from linekeeper.store.lists import count_rows, update_many
from linekeeper.store.modes import apply_rules, hand_over_rule
from linekeeper.store.tables import (
    AuthenticationSetup,
    Connection,
    ConnectionSetting,
    ConnectLink,
    Drift,
    Incident,
    IncidentConnection,
    Reconnect,
    Record,
    Silence,
    Succession,
    SuccessionStep,
    Transition,
    Watermark,
    WebhookHour,
    WebhookTrust,
    WorkflowConfiguration,
)


async def succeed(
    store: Store,
    session: AsyncSession,
    before_id: str,
    after_id: str,
    *,
    source: str,
    message: str,
    now: datetime,
) -> None:
    """`after_id` takes the place of `before_id`, which ends; its history says what it became.

    Customer, tags, settings, mode, silences, open incidents, webhook figures, links that still work
    and the work of getting the login back, or of setting it up, go over; the records once the
    successor has been listed. Repeating it changes nothing.
    """
    before = await session.get_one(Connection, before_id, with_for_update=True)
    after = await session.get_one(Connection, after_id, with_for_update=True)
    if after_id in (before.replaced_by, before_id):
        return
    if before.setup != "disconnected":
        session.add(
            Transition(
                connection_id=before_id,
                at=now,
                axis="setup",
                before=before.setup,
                after="disconnected",
                source=source,
                evidence={"message": message, "now": after_id},
            )
        )
    before.setup, before.replaced_by = "disconnected", after_id
    before.disappeared_at = None  # it is known what became of it
    slug, before.slug = before.slug, f"{before.slug[:60]}-{before_id[-12:]}"
    await session.flush()
    after.slug = slug  # links to its page go on working
    after.customer_id = before.customer_id or after.customer_id
    inherited = [tag for tag in before.tags if tag not in after.tags]
    after.tags = [*after.tags, *inherited]
    after.inherited_tags = [*(after.inherited_tags or ()), *inherited] or None
    is_unsaid = after.tier is None
    if before.tariff_by is not None or is_unsaid:  # the same system: the same charge
        after.hosting, after.tariff_by = before.hosting, before.tariff_by
    if before.tier_by is not None or is_unsaid:
        after.tier, after.tier_by = before.tier, before.tier_by
        after.tariff_default = before.tariff_default
    after.last_webhook_at = after.last_webhook_at or before.last_webhook_at
    after.last_sync_at = after.last_sync_at or before.last_sync_at
    session.add(
        Transition(
            connection_id=after_id,
            at=now,
            axis="setup",
            before="pending",
            after=after.setup,
            source=source,
            evidence={"message": message, "was": before_id},
        )
    )
    await session.flush()
    await hand_over_rule(session, "connection", before_id, after_id)
    await apply_rules(session, [before_id, after_id])
    await session.refresh(after, ["mode", "notify_customers"])
    await _hand_over_settings(session, before_id, after_id)
    await _hand_over_runs(session, before_id, after_id)
    await _hand_over_silences(session, before_id, after_id)
    await _hand_over_incidents(session, before_id, after_id)
    await _hand_over_links(session, before_id, after_id)
    await _hand_over_figures(session, before_id, after_id)
    await _expect_records(store, session, before_id, after_id, now)
    await session.flush()
    if after.customer_id is not None:  # one less of its systems is called by that name
        await distinguish_labels(session, [after.customer_id])


async def take_back(session: AsyncSession, connection_id: str) -> None:
    """A customer logged in to a connection that had a successor: it is no longer over.

    Where the next list has it, it starts anew.
    """
    await session.execute(
        update(Connection)
        .where(col(Connection.id) == connection_id, col(Connection.replaced_by).is_not(None))
        .values(replaced_by=None)
    )


async def succeed_listed(
    store: Store, session: AsyncSession, app: str, *, replaced: Collection[str], now: datetime
) -> list[tuple[str, str]]:
    """Recognise successors that came without a login of ours; the ids of each pair.

    A connection that Makini's list lost, and the one established since for the same customer,
    system and e-mail; or one of `replaced`, which the list shows still or again, though its
    successor is gone. Where several fit, nobody is taken for one; but the last one of several that
    came one after the other succeeds all of them.
    """
    came = await heirs(session, app, now=now)
    came_back = await returned(session, app, replaced, now=now)
    of_gone = Counter(before for before, *_ in (*came, *came_back))
    new, back = {heir.after for heir in came}, Counter(after for _, after in came_back)
    pairs = [
        *((heir.before, heir.after) for heir in came if heir.is_only and not back[heir.after]),
        *(pair for pair in came_back if back[pair[1]] == 1 and pair[1] not in new),
    ]
    pairs = [(before, after) for before, after in pairs if of_gone[before] == 1]
    for before, after in pairs:
        message = "Makini lists the same system of the same customer under another key"
        if (before, after) in came_back:
            message = "Makini lists the connection that was replaced, and no longer its successor"
            await _begin_anew(session, after, now)
        await succeed(store, session, before, after, source="list", message=message, now=now)
    return pairs


async def _begin_anew(session: AsyncSession, connection_id: str, now: datetime) -> None:
    """It is no longer over; what was known of its health is from before it was replaced."""
    connection = await session.get_one(Connection, connection_id, with_for_update=True)
    connection.replaced_by, connection.setup = None, listed_setup(connection)
    connection.health, connection.health_since = "unknown", now
    connection.suspect, connection.judged, connection.last_answered_at = True, {}, None
    await session.flush()


async def _hand_over_settings(session: AsyncSession, before_id: str, after_id: str) -> None:
    """What it is read for, and where it is forwarded to; unless the successor was configured."""
    setting = col(ConnectionSetting.connection_id)
    if not await count_rows(session, ConnectionSetting, setting == after_id):
        await session.execute(
            update_many(ConnectionSetting)
            .where(setting == before_id)
            .values(connection_id=after_id)
        )


async def _hand_over_runs(session: AsyncSession, before: str, after: str) -> None:
    """Runs that set up its login, or verify what it is configured to, see to the successor's."""
    await session.execute(
        update_many(AuthenticationSetup)
        .where(
            col(AuthenticationSetup.connection_id) == before,
            col(AuthenticationSetup.ended_at).is_(None),
        )
        .values(connection_id=after)
    )
    if await session.get(WorkflowConfiguration, after) is None:
        await session.execute(
            update_many(WorkflowConfiguration)
            .where(col(WorkflowConfiguration.connection_id) == before)
            .values(connection_id=after)
        )


async def _hand_over_silences(session: AsyncSession, before: str, after: str) -> None:
    await session.execute(
        update(Silence)
        .where(col(Silence.scope) == "connection", col(Silence.subject) == before)
        .values(subject=after)
    )


async def _hand_over_incidents(session: AsyncSession, before: str, after: str) -> None:
    """Open incidents of the one before are the successor's, where it has none of their topic."""
    taken = set(
        await session.scalars(
            select(col(IncidentConnection.topic)).where(
                col(IncidentConnection.connection_id) == after,
                col(IncidentConnection.left_at).is_(None),
            )
        )
    )
    rows = (
        await session.execute(
            select(IncidentConnection, Incident)
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .where(
                col(IncidentConnection.connection_id) == before,
                col(IncidentConnection.left_at).is_(None),
            )
            .with_for_update()
        )
    ).all()
    for member, incident in rows:
        if member.topic in taken:
            continue
        member.connection_id = after
        if incident.scope == "connection" and incident.resolved_at is None:
            incident.cause = incident.cause.replace(before, after)
        reconnect = await session.get(Reconnect, incident.id, with_for_update=True)
        if reconnect is not None:
            reconnect.windows = _renamed(reconnect.windows, before, after)
            reconnect.counts = _renamed(reconnect.counts, before, after)
    await session.flush()


async def _hand_over_links(session: AsyncSession, before: str, after: str) -> None:
    """Whoever follows a link that was made for the one before logs in to the successor."""
    await session.execute(
        update_many(ConnectLink)
        .where(col(ConnectLink.connection_id) == before, col(ConnectLink.used_at).is_(None))
        .values(connection_id=after)
    )


def _renamed(held: dict[str, object], before: str, after: str) -> dict[str, object]:
    return {after if name == before else name: value for name, value in held.items()}


async def _hand_over_figures(session: AsyncSession, before: str, after: str) -> None:
    """How far its webhooks are trusted, and how often they come: it has none to show for itself."""
    its_own = select(col(WebhookHour.hour)).where(col(WebhookHour.connection_id) == after)
    await session.execute(
        update_many(WebhookHour)
        .where(col(WebhookHour.connection_id) == before, col(WebhookHour.hour).not_in(its_own))
        .values(connection_id=after)
    )
    await session.execute(
        update(Drift).where(col(Drift.connection_id) == before).values(connection_id=after)
    )
    known = await session.get(WebhookTrust, after)
    if known is None:
        await session.execute(
            update(WebhookTrust)
            .where(col(WebhookTrust.connection_id) == before)
            .values(connection_id=after)
        )


async def _expect_records(
    store: Store, session: AsyncSession, before: str, after: str, now: datetime
) -> None:
    """Each entity that was read waits for the successor's first listing.

    One that never got so far comes from whom it was to come from.
    """
    waiting = {
        row.entity: row.predecessor_id
        for row in await session.scalars(
            select(Succession).where(
                col(Succession.connection_id) == before, col(Succession.status) == "pending"
            )
        )
    }
    has_records = (
        select(col(Record.key))
        .where(
            col(Record.connection_id) == col(Watermark.connection_id),
            col(Record.entity) == col(Watermark.entity),
        )
        .exists()
    )
    read = await session.scalars(
        select(col(Watermark.entity)).where(
            col(Watermark.connection_id) == before,
            col(Watermark.full_at).is_not(None),
            col(Watermark.offered) | has_records,
        )
    )
    sources = dict.fromkeys(read, before) | waiting
    for table in (SuccessionStep, Succession):
        await session.execute(
            delete(table).where(
                col(table.connection_id) == before, col(table.entity).in_(list(waiting))
            )
        )
    rows = [
        {
            "connection_id": after,
            "entity": entity,
            "predecessor_id": predecessor,
            "status": "pending",
            "created_at": now,
            "comparable": True,
            **dict.fromkeys(COUNTED, 0),
        }
        for entity, predecessor in sources.items()
    ]
    await insert_ignore(store, session, Succession, rows)
    # What was listed of the successor already is listed again, to be compared.
    await session.execute(
        update(Watermark)
        .where(col(Watermark.connection_id) == after, col(Watermark.entity).in_(list(sources)))
        .values(confirm_at=now)
    )


COUNTED = (
    "records", "matched", "rekeyed", "updated", "inserted", "absent", "ambiguous", "unmatched",
)  # fmt: skip
