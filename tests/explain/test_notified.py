"""Why people were notified of an incident, or why nobody was: decided, and in the database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy, Configuration
from linekeeper.customers.find import NotFound
from linekeeper.explain.answer import Cause, HopName
from linekeeper.explain.decide_notify import judge_message, judge_notice, notice_hops
from linekeeper.explain.facts import MessageFacts, NoticeFacts, NotifyFacts
from linekeeper.explain.service import explain
from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.store import Store
from linekeeper.store.tables import Incident, Silence

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FACTS = NotifyFacts(title="t", since=AT, round=0, now=AT + timedelta(hours=1))
FIRST = NoticeFacts("slack", "first", "new", "normal", AT, 0)
NEVER = NoticeFacts("slack", "never", "muted", "normal", AT, 0)
SENT = MessageFacts("m", "slack", "sent", 1, None, AT, AT)
MUTED = {"muted_at": AT, "muted_until": AT + timedelta(days=1)}


@pytest.mark.parametrize(
    ("facts", "cause", "missing"),
    [
        (replace(FACTS, notices=(FIRST,), messages=(SENT,)), Cause.notified, None),
        (replace(FACTS, notices=(FIRST,)), Cause.notified, None),
        (
            replace(FACTS, notices=(FIRST,), slack_configured=False),
            Cause.slack_unconfigured,
            HopName.delivered,
        ),
        (
            replace(FACTS, notices=(FIRST,), messages=(replace(SENT, status="dead"),)),
            Cause.message_dead,
            HopName.delivered,
        ),
        (
            replace(FACTS, notices=(FIRST,), messages=(replace(SENT, status="pending"),)),
            Cause.message_waiting,
            HopName.delivered,
        ),
        (replace(FACTS, notices=(NEVER,), **MUTED), Cause.muted, HopName.policy),
        (replace(FACTS, notices=(NEVER,), silence="x"), Cause.silenced, HopName.policy),
        (replace(FACTS, notices=(NEVER,)), Cause.never_notified, HopName.policy),
        (replace(FACTS, held="silence", **MUTED), Cause.muted, HopName.policy),
        (replace(FACTS, held="silence"), Cause.silenced, HopName.policy),
        (replace(FACTS, held="quiet"), Cause.quiet_hours, HopName.policy),
        (replace(FACTS, held="alike"), Cause.held_alike, HopName.policy),
        (replace(FACTS, held="checked"), Cause.held_checked, HopName.policy),
        (replace(FACTS, held="lasting"), Cause.held_lasting, HopName.policy),
        (FACTS, Cause.message_waiting, HopName.policy),
        (replace(FACTS, resolved_at=AT), Cause.never_notified, HopName.policy),
        # What was said of an earlier opening is history.
        (
            replace(FACTS, round=1, notices=(FIRST,), held="quiet"),
            Cause.quiet_hours,
            HopName.policy,
        ),
    ],
)
def test_a_verdict_names_the_rule(
    facts: NotifyFacts, cause: Cause, missing: HopName | None
) -> None:
    found = judge_notice(facts)
    assert (found.cause, found.missing) == (cause, missing)
    assert notice_hops(facts, found)[0].at == facts.since


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("sent", Cause.notified),
        ("dead", Cause.message_dead),
        ("suppressed", Cause.message_suppressed),
        ("superseded", Cause.message_suppressed),
        ("skipped", Cause.message_suppressed),
        ("pending", Cause.message_waiting),
    ],
)
def test_a_message_ends_as_its_row_says(status: str, cause: Cause) -> None:
    assert judge_message(replace(SENT, status=status), "new").cause is cause


async def opened(store: Store, cause: str = "p") -> Incident:
    """An incident that is announced."""
    incident = Incident(
        kind="unreachable", scope="provider", cause=cause, app="default", title="SAP"
    )
    async with store.write() as session:
        session.add(incident)
        await session.flush()
        await announce(
            store, session, [IncidentChange(incident.id, "opened", "SAP is down")], now=utcnow()
        )
    return incident


async def test_an_incident_in_quiet_hours_is_explained_by_them(store: Store) -> None:
    quiet = AlertPolicy(quiet_hours="00:00-23:59", first_after_minutes=0)
    configuration = Configuration(apps={}, alerts=quiet)
    incident = await opened(store)
    async with store.write() as session:
        row = await session.get(Incident, incident.id)
        assert row is not None
        row.scope = "connection"
    found = await explain(store, configuration, incident.id, now=utcnow())
    assert found.verdict.cause is Cause.quiet_hours


async def test_an_incident_in_a_maintenance_window_is_explained_by_it(store: Store) -> None:
    now = utcnow()
    configuration = Configuration(apps={})
    incident = await opened(store)
    async with store.write() as session:
        session.add(
            Silence(
                scope="all",
                label="everything",
                starts_at=now - timedelta(hours=1),
                ends_at=now + timedelta(hours=1),
                by="tests",
            )
        )
    await evaluate_alerts(store, configuration, now=now)
    found = await explain(store, configuration, incident.id, now=now)
    assert found.verdict.cause is Cause.silenced
    assert "everything" in found.verdict.summary


async def test_a_message_is_explained_by_the_rule_that_decided_on_it(store: Store) -> None:
    now = utcnow() + timedelta(minutes=10)
    configuration = Configuration(apps={})
    incident = await opened(store)
    await evaluate_alerts(store, configuration, now=now)
    key = f"slack:incident:{incident.id}:first"
    found = await explain(store, configuration, key, now=now)
    assert found.kind == "message"
    assert found.ids["incident"] == incident.id
    assert found.verdict.cause is Cause.message_waiting
    again = await explain(store, configuration, found.ids["message"], now=now)
    assert again.title == found.title


@pytest.mark.parametrize("subject", ["", "nothing known", "019a2f3e-7c1d-7b7e-9d5e-5d7a3e1f0b42"])
async def test_what_nobody_knows_is_refused_with_what_to_give(store: Store, subject: str) -> None:
    with pytest.raises(NotFound):
        await explain(store, Configuration(apps={}), subject, now=utcnow())


async def test_a_message_to_fallback_channels_about_several_incidents_is_a_hop_of_each(
    store: Store,
) -> None:
    """It had been looked for by the incident's id in its key, where it has none."""
    urls = [SecretStr("json://pager.example.com"), SecretStr("json://mail.example.com")]
    configuration = Configuration(apps={}, alerts=AlertPolicy(elsewhere=urls))
    incidents = [await opened(store), await opened(store, "q")]
    for minutes in (60, 61):
        now = utcnow() + timedelta(minutes=minutes)
        await evaluate_alerts(store, configuration, now=now)
    for incident in incidents:
        found = await explain(store, configuration, incident.id, now=now)
        gone_out = [hop for hop in found.hops if hop.text.endswith("a fallback channel")]
        assert len(gone_out) == len(urls), found.hops
