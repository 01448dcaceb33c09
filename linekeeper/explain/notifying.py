"""Explaining incidents and messages: why somebody was notified, or why nobody was."""

from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.modes import subject_of
from linekeeper.config import Configuration
from linekeeper.customers.naming import label
from linekeeper.explain.answer import Explanation
from linekeeper.explain.decide_notify import (
    channel_name,
    judge_message,
    judge_notice,
    message_hops,
    notice_hops,
)
from linekeeper.explain.facts import MessageFacts, NoticeFacts, NotifyFacts
from linekeeper.explain.words import kept
from linekeeper.incidents.announce import incident_ordering_key
from linekeeper.incidents.suppressed import silences
from linekeeper.notify.channels import known_as
from linekeeper.notify.evaluate import targets
from linekeeper.notify.groups import group_ordering_key
from linekeeper.notify.merged import merged_into, unwatched
from linekeeper.notify.policy import decide
from linekeeper.notify.routing import DEFAULT, channels_of
from linekeeper.notify.situations import read_state
from linekeeper.outbox.about import is_a, is_about_incident
from linekeeper.store import Store
from linekeeper.store.modes import Chosen, app_of, load_rules, reasons
from linekeeper.store.retention import load_retention
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Notice,
    NoticeChannel,
    Outbox,
)
from linekeeper.store.types import from_row
from linekeeper.text import counted

_MESSAGES = 50


async def _limits(store: Store, session: AsyncSession) -> tuple[str, ...]:
    """Where the records of messages end, and what can't be known."""
    removed = (await load_retention(store, session)).get("outbox")
    return (
        kept(removed, "Messages that were delivered, or ended otherwise,"),
        "The alert policy's decisions are kept with the incident.",
        "Whether a person read a message can't be known from here.",
    )


async def explain_incident(
    store: Store,
    session: AsyncSession,
    configuration: Configuration,
    incident: Incident,
    *,
    now: datetime,
) -> Explanation:
    """Why people were notified of `incident`, or were not."""
    facts = await _facts(session, configuration, incident, now)
    verdict = judge_notice(facts)
    return Explanation(
        kind="incident",
        subject=incident.id,
        title=incident.title,
        hops=notice_hops(facts, verdict),
        verdict=verdict,
        limits=await _limits(store, session),
        ids={"incident": incident.id},
    )


async def explain_message(
    store: Store,
    session: AsyncSession,
    configuration: Configuration,
    message: Outbox,
    *,
    now: datetime,
) -> Explanation:
    """What became of one outbox message, and which rule decided on it."""
    named = message.payload.get("incident_id")
    incident = await session.get(Incident, named) if isinstance(named, str) else None
    why, ids = "", {"message": message.id}
    title = f"Message to {channel_name(message.channel)}"
    if incident is not None:
        facts = await _facts(session, configuration, incident, now)
        decided = [
            notice
            for notice in facts.notices
            if notice.step != "never" and notice.channel == message.channel
        ]
        before = [notice for notice in decided if notice.at <= message.created_at]
        if decided:
            why = (before or decided)[-1].why
        elif message.channel == "email":
            why = await _why_mailed(session, configuration, incident, message)
        title, ids = (
            f"{title} about {incident.title}",
            ids | {"incident": incident.id},
        )
    for name in ("event", "change"):
        if isinstance(message.payload.get(name), str):
            ids[name] = message.payload[name]
    own = from_row(MessageFacts, message, to="")
    return Explanation(
        kind="message",
        subject=message.id,
        title=title,
        hops=tuple(message_hops((own,))),
        verdict=judge_message(own, why),
        limits=await _limits(store, session),
        ids=ids,
    )


async def _facts(
    session: AsyncSession, configuration: Configuration, incident: Incident, now: datetime
) -> NotifyFacts:
    notice_rows = await session.scalars(
        select(Notice).where(col(Notice.incident_id) == incident.id).order_by(col(Notice.at))
    )
    notices = notice_rows.all()
    own = tuple(
        NoticeFacts(row.channel, row.step, row.why, row.severity, row.at, row.round)
        for row in notices
    )
    group_keys = {row.group_key for row in notices if row.group_key is not None}
    orders = [
        incident_ordering_key(incident.id),
        *(group_ordering_key(group_key) for group_key in group_keys),
    ]
    shared = [
        f"elsewhere:{target}:{group_key}"
        for target in targets(configuration.alerts.elsewhere)
        for group_key in group_keys
    ]
    messages = await session.scalars(
        select(Outbox)
        .where(
            or_(
                col(Outbox.ordering_key).in_(orders),
                (col(Outbox.channel) == "elsewhere") & is_about_incident(incident.id),
                col(Outbox.dedupe_key).in_(shared),
            )
        )
        .order_by(col(Outbox.seq))
        .limit(_MESSAGES)
    )
    mails, more_mails = await _mails(session, incident.id)
    state = await read_state(session, configuration, now)
    decision = decide(
        state.situations, state.notified, policy=configuration.alerts, reach=state.reach, now=now
    )
    held = decision.held.get(incident.id)
    covering = (await silences(session, [incident], now))[incident.id]
    silence = next(
        (each.why for each in covering if each.starts_at <= incident.since < each.ends_at), None
    )
    over = [incident.id] if incident.resolved_at else []
    wider = (await merged_into(session, over)).get(incident.id)
    notified_in = next((row.slack_channel for row in notices if row.slack_channel), DEFAULT)
    channel = await session.get(NoticeChannel, known_as(notified_in))
    return from_row(
        NotifyFacts,
        incident,
        now=now,
        silence=silence,
        merged_into=wider.title if wider else None,
        is_unwatched=bool(await unwatched(session, over)) if over else False,
        held=held.cause if held else None,
        held_why=held.why if held else "",
        held_until=held.until if held else None,
        notices=own,
        messages=tuple(from_row(MessageFacts, row, to="") for row in messages),
        mails=mails,
        more_mails=more_mails,
        slack_configured=bool(channels_of(configuration)),
        slack_trouble=channel.trouble if channel else "",
        unasked=await why_unasked(session, configuration, incident),
    )


async def _mails(session: AsyncSession, incident_id: str) -> tuple[tuple[MessageFacts, ...], int]:
    """The first mails to customers about an incident, and how many more there are."""
    about = (col(Outbox.channel) == "email") & is_a("mail", subject=incident_id)
    rows = (
        await session.scalars(
            select(Outbox).where(about).order_by(col(Outbox.seq)).limit(_MESSAGES)
        )
    ).all()
    total = await session.scalar(select(func.count()).select_from(Outbox).where(about)) or 0
    names = select(col(Customer.id), col(Customer.name)).where(
        col(Customer.id).in_({str(row.payload.get("customer_id")) for row in rows})
    )
    called = {row[0]: row[1] for row in await session.execute(names)}
    mails = tuple(
        from_row(MessageFacts, row, to=called.get(str(row.payload.get("customer_id")), ""))
        for row in rows
    )
    return mails, total - len(mails)


_MOST = 20
_LOST = "reauthorization_required"


async def why_unasked(
    session: AsyncSession, configuration: Configuration, incident: Incident
) -> tuple[str, ...]:
    """A sentence for each connection of an open incident whose customer isn't asked, or mailed."""
    app = configuration.apps.get(incident.app)
    if app is None or incident.kind != _LOST or incident.resolved_at is not None:
        return ()
    members = (
        col(IncidentConnection.incident_id) == incident.id,
        col(IncidentConnection.left_at).is_(None),
    )
    rows = await session.execute(
        select(Connection, col(Customer.name))
        .join(IncidentConnection, col(IncidentConnection.connection_id) == col(Connection.id))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(*members)
        .order_by(col(IncidentConnection.id))
        .limit(_MOST)
    )
    total = await session.scalar(
        select(func.count()).select_from(IncidentConnection).where(*members)
    )
    rules = await load_rules(session)
    said = []
    for connection, customer in rows:
        held = app_of(app, connection)
        chosen = Chosen(connection.mode, connection.notify_customers)
        by_mode, by_notify = reasons(rules, subject_of(connection), chosen, app.name)
        name = label(customer, connection.provider, connection.name, connection.told_apart_by)
        if not held.manages:
            said.append(
                f"{name}: nobody is asked to log in, for it is in mode observe by {by_mode}"
            )
        elif not held.notify_customers:
            said.append(f"{name}: its customer is not notified, by {by_notify}")
    if total and total > _MOST:
        rest = counted(total - _MOST, "further connection")
        said.append(f"{rest} of this incident, not looked at here")
    return tuple(said)


async def _why_mailed(
    session: AsyncSession, configuration: Configuration, incident: Incident, message: Outbox
) -> str:
    """What lets the customer be mailed that `message` is for; empty where nothing does any more."""
    app = configuration.apps.get(incident.app)
    customer = await session.get(Customer, str(message.payload.get("customer_id")))
    connection = await session.scalar(
        select(Connection)
        .join(IncidentConnection, col(IncidentConnection.connection_id) == col(Connection.id))
        .where(
            col(IncidentConnection.incident_id) == incident.id,
            col(Connection.customer_id) == (customer.id if customer else None),
        )
        .limit(1)
    )
    if app is None or customer is None or connection is None:
        return ""
    if not app_of(app, connection).writes_to_customers:
        return ""
    chosen = Chosen(connection.mode, connection.notify_customers)
    rules = await load_rules(session)
    _, by_notify = reasons(rules, subject_of(connection), chosen, app.name)
    return f"{customer.name} is notified, by {by_notify}"
