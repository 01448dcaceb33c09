"""The report of the first quarter of an hour: what Linekeeper found, something for a meeting.

It is read from the database alone, so it costs no call. It names connections and customers, and
holds no token, no address of a person and no contents of a record.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.expiry import Expiry, horizon
from linekeeper.config import Configuration
from linekeeper.credits.tariff import estimate
from linekeeper.customers.distinct_labels import SAID
from linekeeper.customers.naming import label
from linekeeper.markdown import table, text, when
from linekeeper.people import person
from linekeeper.reconcile.entity_failures import EntityState
from linekeeper.reconcile.entity_incidents import entity_states
from linekeeper.runtime import Runtime
from linekeeper.store.modes import Chosen, is_written_to
from linekeeper.store.tables import (
    Connection,
    Contact,
    Customer,
    Incident,
    IncidentConnection,
)
from linekeeper.text import health_name
from linekeeper.views.evidence import evidence_sentence
from linekeeper.views.fleet_models import FleetReport
from linekeeper.views.fleet_page import fleet_headline
from linekeeper.views.fleet_queries import fleet_report
from linekeeper.views.managed import managed_sentence

AHEAD = timedelta(days=31)
SHOWN = 50
"""Rows of each table; how many more there are is said."""
ASKS_THE_CUSTOMER = ("reauthorization_required", "login_ending")


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An open incident, and whom it is for."""

    title: str
    owners: Sequence[str]
    people: int
    """Confirmed contacts of the customers whom it concerns; 0 where customers aren't asked."""
    mailed: int
    """How many of them are written to, as the connections stand now."""


@dataclass(frozen=True, slots=True)
class FirstReport:
    """What was found by `at` (UTC)."""

    at: datetime
    fleet: FleetReport
    systems: Mapping[str, tuple[int, int]]
    """The numbers of connections and customers, by system."""
    unreadable: Sequence[EntityState]
    silent: Sequence[str]
    """Live connections of which no webhook ever came."""
    live: int
    ending: Sequence[Expiry]
    credits_used: int
    alerts: Sequence[OpenAlert]
    has_slack: bool
    has_mail: bool


FIRST_REPORT = "first-report"
"""The artifact's key."""


async def read_first_report(rt: Runtime, *, now: datetime) -> FirstReport:
    """Everything that is known at `now`."""
    configuration = await rt.configuration()
    entities = await entity_states(rt.store)
    tariffs = {name: app.tariffs for name, app in configuration.apps.items()}
    async with rt.store.read() as session:
        systems = await _systems(session)
        live, silent = await _silent(session)
        alerts = await _alerts(session, configuration)
        credits_used = await estimate(session, tariffs)
    return FirstReport(
        at=now,
        fleet=await fleet_report(rt.store, configuration, now=now),
        systems=systems,
        unreadable=[entity for entity in entities if entity.failure],
        silent=silent,
        live=live,
        ending=await horizon(rt, until=now + AHEAD),
        credits_used=credits_used,
        alerts=alerts,
        has_slack=configuration.slack is not None,
        has_mail=configuration.mail is not None,
    )


async def _systems(session: AsyncSession) -> dict[str, tuple[int, int]]:
    rows = await session.execute(
        select(
            col(Connection.provider),
            func.count(),
            func.count(col(Connection.customer_id).distinct()),
        )
        .where(col(Connection.setup) != "disconnected")
        .group_by(col(Connection.provider))
        .order_by(func.count().desc(), col(Connection.provider))
    )
    return {provider: (connections, customers) for provider, connections, customers in rows}


async def _silent(session: AsyncSession) -> tuple[int, list[str]]:
    rows = (
        await session.execute(
            select(
                *SAID,
                col(Connection.last_webhook_at),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.setup) == "live")
            .order_by(col(Connection.id))
        )
    ).all()
    return len(rows), [label(*said) for *said, webhook_at in rows if webhook_at is None]


async def _alerts(session: AsyncSession, configuration: Configuration) -> list[OpenAlert]:
    incidents = list(
        await session.scalars(
            select(Incident).where(col(Incident.resolved_at).is_(None)).order_by(col(Incident.id))
        )
    )
    members = await session.execute(
        select(
            col(IncidentConnection.incident_id),
            col(Customer.id),
            col(Customer.owner),
            col(Connection.app),
            col(Connection.mode),
            col(Connection.notify_customers),
        )
        .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
        .join(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(col(IncidentConnection.left_at).is_(None))
    )
    customers: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    written_to: defaultdict[str, set[str]] = defaultdict(set)
    for incident_id, customer_id, owner, app, mode, notify in members:
        customers[incident_id][customer_id] = owner
        if configuration.mail and is_written_to(configuration.apps, app, Chosen(mode, notify)):
            written_to[incident_id].add(customer_id)
    rows = await session.scalars(select(col(Contact.customer_id)).where(col(Contact.confirmed)))
    people = Counter(rows)
    return [
        OpenAlert(
            incident.title,
            sorted({owner for owner in customers[incident.id].values() if owner}),
            *(
                sum(people[customer] for customer in names_or_addresses)
                if incident.kind in ASKS_THE_CUSTOMER
                else 0
                for names_or_addresses in (customers[incident.id], written_to[incident.id])
            ),
        )
        for incident in incidents
    ]


def first_report_markdown(report: FirstReport) -> str:
    fleet = report.fleet
    modes = ", ".join(f"{text(app.name)}: {app.mode or 'not configured'}" for app in fleet.apps)
    managed = managed_sentence((app.managed for app in fleet.apps), map(text, fleet.mode_rules))
    parts = [
        f"# First report: {fleet_headline(fleet)}",
        f"{report.at:%Y-%m-%d %H:%M} UTC · mode of each app: {modes or 'no app yet'}",
        f"By connection: {managed or 'none is known yet'}.",
        f"Evidence of the healthy: {evidence_sentence(fleet.evidence) or 'none'}.",
        "## Systems",
        table(
            ["System", "Connections", "Customers (a guess by their names)"],
            (
                [text(system), f"{connections:,}", f"{customers:,}"]
                for system, (connections, customers) in report.systems.items()
            ),
        ),
        "## Dead or suspicious",
        *_shown(
            ["Connection", "Health", "Since", "Evidence"],
            [
                [
                    text(line.label),
                    text(health_name(line.health)),
                    when(line.since),
                    text((line.answer.message or line.answer.code or "") if line.answer else ""),
                ]
                for line in fleet.troubles
            ],
            fleet.troubles_total,
            "Nothing is known to be in trouble.",
        ),
        "## Entities that can't be read",
        *_shown(
            ["Connection", "Entity", "Why", "Since"],
            [
                [text(each.label), text(each.entity), text(each.failure or ""), when(each.since)]
                for each in report.unreadable
            ],
            len(report.unreadable),
            "Every entity that was read could be, or none was read: in `observe` without tokens "
            "nothing is.",
        ),
        "## Webhooks",
        f"Of {report.live:,} live connections {len(report.silent):,} never sent a webhook here"
        + _names(report.silent),
        "## Tokens that end within 31 days",
        *_shown(
            ["Connection", "Ends"],
            [[text(each.label), when(each.expires_at)] for each in report.ending],
            len(report.ending),
            "None of the tokens that are held here.",
        ),
        "## Credits",
        f"The connections use {report.credits_used:,} credits, as an estimate by their systems.",
        "## Whom Linekeeper would notify",
        _whether(report),
        *_shown(
            ["Incident", "Owner", "People at the customer", "Mailed as it is set now"],
            [
                [
                    text(alert.title),
                    _called(alert.owners),
                    f"{alert.people}",
                    f"{alert.mailed}",
                ]
                for alert in report.alerts
            ],
            len(report.alerts),
            "Nobody would be notified.",
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _whether(report: FirstReport) -> str:
    slack = "are posted" if report.has_slack else "would be posted, were Slack configured"
    off = "" if report.has_mail else " No mail account is configured."
    return (
        f"Open incidents {slack}. People at the customer are mailed where their connection is "
        "managed and `notify_customers` is on for it; a contact that Makini proposed and nobody "
        f"confirmed is not among them.{off}"
    )


def _shown(
    headings: Sequence[str], rows: Sequence[list[str]], total: int, nothing: str
) -> Iterable[str]:
    if not rows:
        return [nothing]
    remaining = total - len(rows[:SHOWN])
    return [
        table(headings, rows[:SHOWN]),
        *([f"… and {remaining:,} more."] if remaining > 0 else []),
    ]


def _called(owners: Sequence[str]) -> str:
    return text(", ".join(person(owner).shown for owner in owners) or "nobody is set")


def _names(names: Sequence[str]) -> str:
    if not names:
        return "."
    remaining = len(names) - 20
    return (
        ": "
        + ", ".join(map(text, names[:20]))
        + (f", and {remaining:,} more." if remaining > 0 else ".")
    )
