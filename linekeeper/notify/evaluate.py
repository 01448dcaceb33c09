"""The alert policy at work: what is due to be said becomes notices and rows of the outbox.

A notice and its rows are one transaction, and a notice is there once for its incident, channel and
step: whoever decides, however many and however often they are killed, nothing is said twice and
nothing is forgotten.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import new_id
from linekeeper.config import Configuration
from linekeeper.incidents.announce import first_key, incident_ordering_key
from linekeeper.notify.about import about_messages
from linekeeper.notify.groups import group_ordering_key
from linekeeper.notify.outgrown import outgrown
from linekeeper.notify.policy import BROKEN_AFTER, decide, reach_of
from linekeeper.notify.routing import DEFAULT, channels_of, route
from linekeeper.notify.situations import Moment, NoticeDecision, Reach, Say, read_state
from linekeeper.notify.steps import Step
from linekeeper.outbox.about import is_a
from linekeeper.outbox.queue import DUE_SINCE, Message, enqueue
from linekeeper.store.engine import Store, chunked, insert_ignore
from linekeeper.store.tables import Notice, Outbox

Look = Callable[[Collection[str]], Awaitable[None]]
"""Looks at the connections of incidents that somebody is about to be notified of."""

_AT_ONCE = 5_000
_LOCK = 4_217_005  # PostgreSQL's advisory lock: one process decides at a time


async def evaluate_alerts(
    store: Store, configuration: Configuration, *, now: datetime, look: Look | None = None
) -> NoticeDecision:
    """Decide what is to be said now and write it down; returns the decision.

    Costs one statement and nothing more while there is nothing to say. Of what would be said
    `look` makes sure first that it is so, where what is known of it is old.
    """
    async with store.read() as session:
        state = await read_state(session, configuration, now)
        besides = await _besides(session, configuration, state, now)
    decision = _decide(state, configuration, now)
    if not (decision.say or decision.never or besides):
        return decision
    if look is not None and decision.say:
        await look({say.incident_id for say in decision.say})
    async with store.write() as session:
        if not store.is_sqlite:
            await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        state = await read_state(session, configuration, now)
        decision = _decide(state, configuration, now)
        rounds = {situation.id: situation.round for situation in state.situations}
        await _write(store, session, decision, rounds, configuration, now=now)
        besides = await _besides(session, configuration, state, now)
        await enqueue(store, session, besides, now=now)
    return decision


def targets(urls: Iterable[Any]) -> dict[str, str]:
    """The Apprise URLs by a name that reveals nothing of them; it is what rows carry."""
    plain = [url.get_secret_value() for url in urls]
    return {hashlib.sha256(url.encode()).hexdigest()[:16]: url for url in plain}


def _decide(state: Moment, configuration: Configuration, now: datetime) -> NoticeDecision:
    return decide(
        state.situations, state.notified, policy=configuration.alerts, reach=state.reach, now=now
    )


async def _write(
    store: Store,
    session: AsyncSession,
    decision: NoticeDecision,
    rounds: Mapping[str, int],
    configuration: Configuration,
    *,
    now: datetime,
) -> None:
    never = [
        Say(incident_id, "slack", Step("never"), why, round=rounds[incident_id])
        for incident_id, why in decision.never.items()
    ]
    notices = [
        {
            "id": new_id(),
            "incident_id": say.incident_id,
            "channel": say.channel,
            "step": step_name(say.step),
            "step_kind": say.step.kind,
            "number": say.step.number,
            "group_key": say.group_key,
            "group_kind": say.group_kind,
            "slack_channel": say.slack_channel if say.channel == "slack" else None,
            "severity": say.severity,
            "round": say.round,
            "why": say.why,
            "at": now,
        }
        for say in (*decision.say, *never)
    ]
    if notices:
        await insert_ignore(store, session, Notice, notices)
    messages = [*_in_slack(decision.say, now), *_for_fallback(decision.say, configuration)]
    await enqueue(store, session, messages, now=now)


def _in_slack(say: Sequence[Say], now: datetime) -> Iterable[Message]:
    grouped: set[str] = set()
    for notice in say:
        if notice.channel != "slack":
            continue
        ordering_key = incident_ordering_key(notice.incident_id)
        if notice.step.kind == "first" and notice.group_key is None and notice.round == 0:
            payload = {"do": "show", "incident_id": notice.incident_id}
            yield Message("slack", first_key(notice.incident_id), payload, ordering_key)
        elif notice.group_key is not None and notice.group_key not in grouped:
            grouped.add(notice.group_key)
            ordering_key = group_ordering_key(notice.group_key)
            payload = {
                "do": "group",
                "group_key": notice.group_key,
                "slack_channel": notice.slack_channel,
            }
            # With its moment: what Slack did not take may be decided again, and alike.
            key = f"{ordering_key}:{notice.incident_id}:{now:%Y%m%d%H%M%S%f}"
            yield Message("slack", key, payload, ordering_key)
        elif notice.group_key is None:
            payload = {
                "do": "remind",
                "incident_id": notice.incident_id,
                # Its message is there and edited, which notifies nobody: it is said in the thread.
                **step_payload(Step("reopened") if notice.step.kind == "first" else notice.step),
                "why": notice.why,
            }
            key = f"{ordering_key}:{_step(notice.round, step_name(notice.step))}"
            yield Message("slack", key, payload, ordering_key)


def step_name(step: Step) -> str:
    """The name by which it is said once."""
    return f"{step.kind}:{step.number}" if step.number else step.kind


def step_payload(step: Step) -> dict[str, Any]:
    """What a message says of its step; the name is for the version before."""
    return {"step": step_name(step), "step_kind": step.kind, "number": step.number}


def _step(round_: int, name: str) -> str:
    """A step's name that is another one each time the incident is opened."""
    return f"{round_}:{name}" if round_ else name


def _fallback_key(of: Say | Notice, name: str) -> str:
    """What the key of its message ends with, whichever URL it is for; `name` is the step's."""
    return of.group_key or f"{of.incident_id}:{_step(of.round, name)}"


async def sent_to_fallback_channels(
    session: AsyncSession, incident_ids: Sequence[str], names: Collection[str]
) -> set[tuple[str, str]]:
    """Which of these incidents were sent to fallback channels called `names`: pairs of both."""
    of_key = await _fallback_keys(session, incident_ids, names)
    gone_out: set[tuple[str, str]] = set()
    for keys in chunked(sorted(of_key), _AT_ONCE):
        sent = select(col(Outbox.dedupe_key)).where(
            col(Outbox.dedupe_key).in_(keys), col(Outbox.status) == "sent"
        )
        gone_out.update(*(of_key[key] for key in await session.scalars(sent)))
    return gone_out


async def withheld_from_fallback_channels(
    session: AsyncSession, incident_ids: Sequence[str], names: Collection[str]
) -> set[tuple[str, str]]:
    """The same, of those that were to be escalated there, and were not: no end is told of them.

    Of one that others were to be notified of in Slack's place, the end is news.
    """
    of_key = await _fallback_keys(session, incident_ids, names)
    in_its_place = {
        incident_id
        for portion in chunked(incident_ids, _AT_ONCE)
        for incident_id in await session.scalars(
            select(col(Notice.incident_id)).where(
                col(Notice.channel) == "elsewhere",
                col(Notice.incident_id).in_(portion),
                col(Notice.step).not_in(("escalation", "resolved")),
            )
        )
    }
    went: set[tuple[str, str]] = set()
    withheld: set[tuple[str, str]] = set()
    for keys in chunked(sorted(of_key), _AT_ONCE):
        kept = select(col(Outbox.dedupe_key), col(Outbox.status)).where(
            col(Outbox.dedupe_key).in_(keys)
        )
        for key, status in await session.execute(kept):
            (went if status == "sent" else withheld).update(of_key[key])
    return {pair for pair in withheld - went if pair[0] not in in_its_place}


async def _fallback_keys(
    session: AsyncSession, incident_ids: Sequence[str], names: Collection[str]
) -> dict[str, list[tuple[str, str]]]:
    """What was to be sent of these incidents but their ends, by the keys of its messages."""
    of_key: dict[str, list[tuple[str, str]]] = {}
    for portion in chunked(incident_ids, _AT_ONCE):
        notices = await session.scalars(
            select(Notice).where(
                col(Notice.channel) == "elsewhere", col(Notice.incident_id).in_(portion)
            )
        )
        for notice in notices:
            for name in names if notice.step != "resolved" else ():
                key = f"elsewhere:{name}:{_fallback_key(notice, notice.step)}"
                of_key.setdefault(key, []).append((notice.incident_id, name))
    return of_key


def _for_fallback(say: Sequence[Say], configuration: Configuration) -> Iterable[Message]:
    """A row for each URL: one that fails is tried again without the others hearing twice."""
    batches: dict[str, list[Say]] = {}
    for notice in say:
        if notice.channel == "elsewhere":
            batches.setdefault(_fallback_key(notice, step_name(notice.step)), []).append(notice)
    for key, batch in batches.items():
        items = [
            {"incident_id": notice.incident_id, **step_payload(notice.step), "why": notice.why}
            for notice in batch
        ]
        for target in targets(configuration.alerts.elsewhere):
            payload = {"target": target, "items": items}
            alone = batch[0].incident_id if len(batch) == 1 else None
            yield Message("elsewhere", f"elsewhere:{target}:{key}", payload, subject=alone)


async def _besides(
    session: AsyncSession, configuration: Configuration, state: Moment, now: datetime
) -> list[Message]:
    """What is to be said that no notice stands for."""
    unnotified = await _unnotified(session, configuration, state, now)
    if not (
        configuration.slack_channels
        or any(each.severity == "critical" for each in state.situations)
    ):
        return unnotified
    return [*unnotified, *await outgrown(session, configuration, state, now=now)]


async def _unnotified(
    session: AsyncSession, configuration: Configuration, state: Moment, now: datetime
) -> list[Message]:
    """Messages of their own that Slack can't be reached, for fallback channels."""
    urls = targets(configuration.alerts.elsewhere)
    channels = channels_of(configuration)
    unreached = {
        name for name in (*channels, DEFAULT) if _is_unreached(reach_of(state.reach, name), now)
    }
    if not urls or not unreached:
        return []
    rows = (
        await session.execute(
            select(col(Outbox.dedupe_key), col(Outbox.payload)).where(
                col(Outbox.channel) == "slack",
                col(Outbox.status) == "pending",
                is_a("say", "slip", "digest"),
                now - timedelta(days=3) < DUE_SINCE,
                now >= DUE_SINCE,
            )
        )
    ).all()
    abouts = await about_messages(session, [payload for _, payload in rows])
    wanted = {
        f"elsewhere:{target}:{key}": {"target": target, "text": payload.get("text", "")}
        for (key, payload), about in zip(rows, abouts, strict=True)
        if len(channels) < 2 or route(about, channels) in unreached
        for target in urls
    }
    known: set[str] = set()
    for keys in chunked(list(wanted), _AT_ONCE):
        which = col(Outbox.dedupe_key).in_(keys)
        known |= set(await session.scalars(select(col(Outbox.dedupe_key)).where(which)))
    return [
        Message("elsewhere", key, payload) for key, payload in wanted.items() if key not in known
    ]


def _is_unreached(reach: Reach, now: datetime) -> bool:
    """Whether a channel takes nothing, for long enough that others are notified instead."""
    if not reach.configured:
        return True
    if reach.broken_since is None:
        return False
    return reach.needs_fix or now >= reach.broken_since + BROKEN_AFTER
