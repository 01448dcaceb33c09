"""Announcing logins that end and that nothing of ours renews (MISSION B4).

Operators are notified a week ahead. So is the customer, where customers are notified: by mail, with
a connect link that outlives the end, and again before it. When the last day begins it is an
incident.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.expiry import WITHIN, Expiry, horizon
from linekeeper.access.links import make_link
from linekeeper.config import Configuration
from linekeeper.customers.reachable import with_contacts
from linekeeper.incidents.announce import said_about
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.outbox.mail_order import mail_ordering_key
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.reconnect.remind import put_off
from linekeeper.runtime import Runtime
from linekeeper.store.modes import app_of
from linekeeper.store.tables import Credential, Incident, Outbox

TOPIC = "expiry"
KIND = "login_ending"
REMINDER = timedelta(days=3)
"""Before the end; a weekend fits into it."""
LAST_DAY = timedelta(days=1)
LINK_OUTLIVES = timedelta(days=2)
"""How long a link works beyond the end of the login."""


async def announce_ending(rt: Runtime, *, now: datetime) -> int:
    """Bring everything announced about logins that end in line with what ends; returns how many.

    A repeat changes nothing, so the consumer does it every minute and `refresh-tokens` at once.
    """
    configuration = await rt.configuration()
    ending = [
        expiry
        for expiry in await horizon(rt, until=now + WITHIN)
        if is_announced(expiry, configuration)
    ]
    last_day = [
        expiry for expiry in ending if expiry.refused and expiry.expires_at - now <= LAST_DAY
    ]
    async with rt.store.read() as session:
        if await _is_announced(session, ending, last_day, configuration, now):
            return len(ending)
    async with rt.store.write() as session:
        mailed = await _mail(rt, session, _to_mail(ending, configuration, now), now)
        slack = [_operators(expiry, expiry.connection_id in mailed, now) for expiry in ending]
        await enqueue(rt.store, session, slack, now=now)
        findings = [_finding(expiry) for expiry in last_day]
        await apply_findings(rt.store, session, TOPIC, findings, now=now, apps=configuration.apps)
    return len(ending)


def is_announced(expiry: Expiry, configuration: Configuration) -> bool:
    """Whether people have to do something about this login before it ends. Pure.

    In `manage` only once Makini has refused to renew it, and not of a connection of which nobody
    knows how it is: it may be gone. One whose customer has to log in already is an incident of its
    own, and nothing is known of one whose app the settings don't name.
    """
    app = configuration.apps.get(expiry.app)
    if app is None or expiry.health == "reauthorization_required":
        return False
    if app_of(app, expiry.chosen).manages:
        return expiry.refused and expiry.health != "unknown"
    return True


async def _is_announced(
    session: AsyncSession,
    ending: Sequence[Expiry],
    last_day: Sequence[Expiry],
    configuration: Configuration,
    now: datetime,
) -> bool:
    """Whether there is nothing to write: a transaction that writes holds SQLite's one lock."""
    to_mail = _to_mail(ending, configuration, now)
    if to_mail and await with_contacts(session, list(to_mail)):
        return False
    announced = {_operators(expiry, False, now).dedupe_key for expiry in ending}
    if announced:
        known = select(col(Outbox.dedupe_key)).where(col(Outbox.dedupe_key).in_(announced))
        if announced - set(await session.scalars(known)):
            return False
    said_already = {(finding.cause, finding.text) for finding in map(_finding, last_day)}
    opened = await session.execute(
        select(col(Incident.cause), col(Incident.summary)).where(
            col(Incident.topic) == TOPIC,
            col(Incident.resolved_at).is_(None),
            col(Incident.app).in_(configuration.apps),
        )
    )
    return said_already == {(cause, summary) for cause, summary in opened}


def _to_mail(
    ending: Sequence[Expiry], configuration: Configuration, now: datetime
) -> dict[str, list[Expiry]]:
    """Customer id → logins it is to be mailed about now, for the first time or again. Pure."""
    due: dict[str, list[Expiry]] = {}
    for expiry in ending:
        app = configuration.apps.get(expiry.app)
        if configuration.mail is None or app is None:
            continue
        if not app_of(app, expiry.chosen).writes_to_customers:
            continue
        step = 2 if expiry.expires_at - now <= REMINDER else 1
        if expiry.customer_id and expiry.refused and expiry.notified < step:
            due.setdefault(expiry.customer_id, []).append(expiry)
    return due


async def _mail(
    rt: Runtime, session: AsyncSession, due: dict[str, list[Expiry]], now: datetime
) -> Collection[str]:
    """One mail a customer, in its working hours; returns the connections somebody is mailed of."""
    reachable = await with_contacts(session, list(due))
    mailed: set[str] = set()
    for customer_id in sorted(reachable):
        expiries = due[customer_id]
        for expiry in expiries:
            if not expiry.notified:
                await make_link(
                    session,
                    app=expiry.app,
                    connection_id=expiry.connection_id,
                    customer_id=customer_id,
                    system=expiry.system,
                    by="linekeeper",
                    now=now,
                    expires_at=expiry.expires_at + LINK_OUTLIVES,
                )
            step = 2 if expiry.expires_at - now <= REMINDER else 1
            await session.execute(
                update(Credential)
                .where(col(Credential.connection_id) == expiry.connection_id)
                .values(ending_notified=step)
            )
        ids = [expiry.connection_id for expiry in expiries]
        mailed.update(ids)
        ends = [expiry.expires_at.isoformat() for expiry in expiries]
        reminder = any(expiry.notified for expiry in expiries)
        message = Message(
            "email",
            f"email:ending:{customer_id}:{expiries[0].connection_id}:"
            f"{expiries[0].expires_at:%Y-%m-%dT%H:%M}:{int(reminder)}",
            {
                "do": "ending",
                "customer_id": customer_id,
                "connections": ids,
                "reminder": reminder,
                "ends": ends,
            },
            ordering_key=mail_ordering_key("ending", customer_id),
            not_before=put_off(now, expiries[0].time_zone, ends),
        )
        await enqueue(rt.store, session, [message], now=now)
    return mailed


def _operators(expiry: Expiry, is_mailed: bool, now: datetime) -> Message:
    """What operators read, once."""
    todo = (
        "Its customer is mailed a connect link."
        if is_mailed or expiry.notified
        else "Send a connect link before that: run `connect`."
    )
    ends = [expiry.expires_at.isoformat()]
    return Message(
        "slack",
        f"slack:say:expiry:{expiry.connection_id}:{expiry.expires_at:%Y-%m-%d}",
        {
            "do": "say",
            "subject": f"expiry:{expiry.connection_id}",
            "text": f"{expiry.label}: its login ends on {expiry.expires_at:%a %d %B, %H:%M} UTC "
            f"and can't be renewed without the customer. {todo}",
            "zone": expiry.time_zone,
            "ends": ends,
            **said_about("login", connection_id=expiry.connection_id),
        },
        kind="say",
        not_before=put_off(now, expiry.time_zone, ends),
    )


def _finding(expiry: Expiry) -> Finding:
    return Finding(
        kind=KIND,
        scope="connection",
        cause=f"expiry:{expiry.connection_id}",
        app=expiry.app,
        title=expiry.label,
        text=f"The login ends on {expiry.expires_at:%a %d %B, %H:%M} UTC, and Makini refuses to "
        "renew it. From then on every call on this connection fails.",
        members=[expiry.connection_id],
        resolved="A new login was stored, or the loss of this one is an incident of its own by "
        "now.",
    )
