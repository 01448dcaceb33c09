"""Trust in the webhooks, measured after each run: what turned bad is said, what never comes is an
incident with the URL to configure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.incidents.announce import say
from linekeeper.incidents.findings import (
    keep_members,
    open_causes,
    open_incident,
    resolve_incident,
)
from linekeeper.incidents.lifecycle import Opening, find_open
from linekeeper.reconcile.causes import OUTAGE
from linekeeper.reconcile.trust import WINDOW, Measured, state_after
from linekeeper.runtime import Runtime
from linekeeper.store.engine import chunked, insert_or_update
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Connection, Customer, Drift, WebhookTrust
from linekeeper.text import counted

TOPIC = "webhooks"
KIND = "webhooks_unconfigured"
WIDESPREAD = 5
"""So many connections of one app without webhooks, and half of it, are one incident."""
_NAMED = 5
_NOT_MEASURED = "Not connected any more, so its webhooks are not measured"


@dataclass(frozen=True, slots=True)
class TrustVerdict:
    """A connection's trust, before and after."""

    connection_id: str
    label: str
    app: str
    makini_key: str
    before: str
    after: str
    measured: Measured

    @property
    def turned_bad(self) -> bool:
        """Whether people have to be notified."""
        return self.after == "bad" and self.before != "bad"


async def measure(rt: Runtime, *, now: datetime) -> list[TrustVerdict]:
    """Measure every connection that was counted in the window; one line in Slack for all that
    turned bad; open and resolve the incidents of those whose webhooks never come."""
    verdicts = await _verdicts(rt, now)
    quiet = (await rt.configuration()).alerts.quiet
    store = rt.store
    async with store.write() as session:
        rows = [
            {
                "connection_id": verdict.connection_id,
                "state": verdict.before,
                "since": now,
                "missed": verdict.measured.lost,
                "late": verdict.measured.late,
                "webhooks_seen": verdict.measured.webhooks_seen,
                "caught_up": verdict.measured.caught_up,
                "late_seconds": verdict.measured.late_seconds,
                "measured_at": now,
            }
            for verdict in verdicts
        ]
        kept = ["missed", "late", "webhooks_seen", "caught_up", "late_seconds", "measured_at"]
        for chunk in chunked(rows, 1_000):
            await insert_or_update(
                store, session, WebhookTrust, chunk, key=["connection_id"], update=kept
            )
        verdicts = await _moved(session, verdicts, now)
        bad = [verdict for verdict in verdicts if verdict.turned_bad]
        if bad:
            await say(
                store, session, f"webhook-trust:{now.isoformat()}", sentence(bad), now, quiet=quiet
            )
        await _incidents(rt, session, verdicts, now)
    return verdicts


async def _moved(
    session: AsyncSession, verdicts: Sequence[TrustVerdict], now: datetime
) -> list[TrustVerdict]:
    """Write each state that is another one now; what a run beside this one wrote is no change."""
    changed: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.before != verdict.after:
            changed[verdict.before, verdict.after].append(verdict.connection_id)
    moved: set[str] = set()
    for (before, after), ids in sorted(changed.items()):
        for chunk in chunked(ids, 1_000):
            moved |= set(
                await session.scalars(
                    update_many(WebhookTrust)
                    .where(col(WebhookTrust.connection_id).in_(chunk))
                    .where(col(WebhookTrust.state) == before)
                    .values(state=after, since=now)
                    .returning(col(WebhookTrust.connection_id))
                )
            )
    return [
        verdict if verdict.connection_id in moved else replace(verdict, before=verdict.after)
        for verdict in verdicts
    ]


def sentence(bad: Sequence[TrustVerdict]) -> str:
    """The one line about connections whose webhooks turned bad. Pure."""
    worst = sorted(bad, key=lambda verdict: -(verdict.measured.miss_rate or 0.0))
    said = []
    for verdict in worst[:_NAMED]:
        rate, delay = verdict.measured.miss_rate or 0.0, verdict.measured.mean_delay
        late = f", late ones by {delay / 60:.0f} min on average" if delay else ""
        said.append(
            f"{verdict.label} missed {rate:.0%} "
            f"({verdict.measured.lost} of {verdict.measured.changes} changes){late}"
        )
    and_more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return (
        f"Webhooks can't be trusted: {'; '.join(said)}{and_more}. "
        "Linekeeper polls them tighter and hands on what was missed."
    )


def webhook_url(public_url: str, app: str, makini_key: str) -> str:
    """Where a connection's webhooks are to be sent."""
    return f"{public_url}/webhooks/{app}/{makini_key}"


async def count_by_connection(session: AsyncSession, since: datetime) -> dict[str, Measured]:
    """What was counted of each connection since then, by what it was put down to."""
    rows = await session.execute(
        select(col(Drift.connection_id), *counted_columns())
        .where(col(Drift.run_at) >= since)
        .group_by(col(Drift.connection_id))
    )
    return {
        identifier: Measured(int(lost), int(late), int(seen), float(seconds), int(caught_up))
        for identifier, lost, late, seen, seconds, caught_up in rows
    }


def counted_columns() -> tuple[ColumnElement[Any], ...]:
    """Sums over `drift`, as `Measured` has them: lost, late, in time, seconds, backfilled."""
    is_senders, is_ours = col(Drift.cause).is_(None), col(Drift.cause) == OUTAGE
    return (
        _sum(is_senders, col(Drift.missed) - col(Drift.came_late)),
        _sum(is_senders, col(Drift.late)),
        _sum(is_senders, col(Drift.webhooks_seen)),
        _sum(is_senders, col(Drift.late_seconds)),
        _sum(is_ours, col(Drift.missed) + col(Drift.webhooks_seen)),
    )


def _sum(condition: ColumnElement[bool], value: Any) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, value), else_=0)), 0)


async def _verdicts(rt: Runtime, now: datetime) -> list[TrustVerdict]:
    since = now - WINDOW
    async with rt.store.read() as session:
        counted = await count_by_connection(session, since)
        known = await session.execute(
            select(
                col(Connection.id),
                col(Connection.app),
                col(Connection.makini_key),
                col(Connection.name),
                col(Connection.provider),
                col(Connection.told_apart_by),
                col(Connection.last_webhook_at),
                col(Customer.name),
                func.coalesce(col(WebhookTrust.state), "unknown"),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .outerjoin(WebhookTrust, col(WebhookTrust.connection_id) == col(Connection.id))
            .where(col(Connection.setup) != "disconnected")
            .order_by(col(Connection.id))  # two who write them wait for each other, in no circle
        )
        verdicts = []
        for identifier, app, key, name, provider, told_apart_by, webhook_at, *rest in known:
            customer, before = rest
            measured = counted.get(identifier)
            if measured is None and before == "unknown":
                continue
            measured = measured or Measured()
            ever = webhook_at is not None and webhook_at >= since
            verdicts.append(
                TrustVerdict(
                    identifier,
                    label(customer, provider, name, told_apart_by),
                    app,
                    key,
                    before,
                    state_after(before, measured, ever_announced=ever),
                    measured,
                )
            )
    return verdicts


async def _incidents(
    rt: Runtime, session: AsyncSession, verdicts: Sequence[TrustVerdict], now: datetime
) -> None:
    """Bring the incidents of webhooks that never come in line with `verdicts`.

    That they come in is said only where one did: nothing else ends the state `none`.
    The app's incident is open while most, or since then any, of its connections get none; whoever
    is in it has none of its own.
    """
    opened = await open_causes(session, topic=TOPIC, kind=KIND)
    for app in sorted({verdict.app for verdict in verdicts} | {app for app, _ in opened}):
        silent = [verdict for verdict in verdicts if verdict.app == app and verdict.after == "none"]
        came = any(
            verdict.app == app and verdict.before == "none" and verdict.after != "none"
            for verdict in verdicts
        )
        covered = await _of_app(rt, session, app, silent, now, came=came)
        wanted = {} if covered else {_own(verdict.connection_id): verdict for verdict in silent}
        still = {_own(verdict.connection_id) for verdict in silent}
        measured = {_own(verdict.connection_id) for verdict in verdicts}
        over = {cause for of, cause in opened if of == app} - {_of(app)} - set(wanted)
        for cause in sorted(over):
            text = "Webhooks come in" if cause in measured else _NOT_MEASURED
            if cause in still:
                text = "Part of the app's incident"
            await resolve_incident(rt.store, session, cause, text, now=now)
        for cause, verdict in wanted.items():
            url = webhook_url(rt.settings.resolved_public_url, app, verdict.makini_key)
            opening = Opening(
                topic=TOPIC,
                kind=KIND,
                scope="connection",
                cause=cause,
                app=app,
                title=f"{verdict.label} · webhooks apparently unconfigured",
                summary=f"{counted(verdict.measured.lost, 'change')} in {WINDOW.days} days and not "
                f"one webhook. In Makini's dashboard, send its webhooks to {url}",
                members={verdict.connection_id: KIND},
                detail={"url": url},
            )
            await open_incident(rt.store, session, opening, now=now)


async def _of_app(
    rt: Runtime,
    session: AsyncSession,
    app: str,
    silent: Sequence[TrustVerdict],
    now: datetime,
    *,
    came: bool,
) -> bool:
    """Bring the app's own incident in line; whether it covers those that are `silent`.

    `came`: a webhook has come of one that was silent.
    """
    store, cause = rt.store, _of(app)
    if not silent:
        text = "Webhooks come in again" if came else _NOT_MEASURED
        await resolve_incident(store, session, cause, text, now=now)
        return False
    members = [verdict.connection_id for verdict in silent]
    if await find_open(session, cause) is not None:
        await keep_members(store, session, cause, members, now=now)
        return True
    total = await session.scalar(
        select(func.count()).select_from(Connection).where(
            col(Connection.app) == app, col(Connection.setup).in_(("syncing", "live"))
        )
    )  # fmt: skip
    if len(silent) < WIDESPREAD or len(silent) * 2 < (total or 0):
        return False
    url = f"{rt.settings.resolved_public_url}/webhooks/{app}"
    opening = Opening(
        topic=TOPIC,
        kind=KIND,
        scope="app",
        cause=cause,
        app=app,
        title=f"app {app} · webhooks apparently unconfigured",
        summary=f"{counted(len(silent), 'connection')} changed and not one webhook came. In "
        f"Makini's dashboard, send webhooks to {url} (or, per connection, to {url}/<key>).",
        members=dict.fromkeys(members, KIND),
        detail={"url": url},
    )
    await open_incident(store, session, opening, now=now)
    return True


def _of(app: str) -> str:
    return f"app:{app}:webhooks"


def _own(connection_id: str) -> str:
    return f"connection:{connection_id}:webhooks"
