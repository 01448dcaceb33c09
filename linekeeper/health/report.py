"""The artifacts `fleet` and `connection-<slug>` as Markdown. Pure; times are shown in UTC."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from linekeeper.health.charts import LOOKS, Change, look, states_over_time, timeline
from linekeeper.health.judge import Health
from linekeeper.health.report_queries import (
    AppLine,
    ConnectionReport,
    FleetReport,
    OpenIncident,
    TroubleLine,
)
from linekeeper.markdown import MAX_MESSAGE, ago, code, image, table, text, when

MAX_TABLE_BYTES = 400_000
"""The fleet's troubles end there, so that the artifact stays under half a megabyte."""


@dataclass(frozen=True, slots=True)
class ReportLinks:
    """Where the artifacts' links lead.

    Without `ui_url` (such as `http://127.0.0.1:4200`) they are relative to an artifact's page:
    right under whatever address, and in whichever of Prefect's two UIs, it is read.
    """

    ui_url: str | None = None
    check_deployment_id: str | None = None
    """The deployment `check-connection`; without it there is no link to its form."""
    artifact_ids: Mapping[str, str] = field(default_factory=dict)
    """The newest artifact's id by key: Prefect's page of a key only lists the versions."""

    def artifact(self, key: str) -> str:
        """The artifact `key`, or where its versions are listed if its id isn't known."""
        if found := self.artifact_ids.get(key):
            return f"{self._base}/artifacts/artifact/{quote(found, safe='')}"
        return f"{self._base}/artifacts/key/{quote(key, safe='')}"

    def check(self, connection_id: str) -> str | None:
        """The form of `check-connection`, filled in with the connection."""
        if self.check_deployment_id is None:
            return None
        parameters = json.dumps({"connection": connection_id}, separators=(",", ":"))
        form = f"{self._base}/deployments/deployment/{quote(self.check_deployment_id, safe='')}/run"
        return f"{form}?parameters={quote(parameters, safe='')}"

    @property
    def _base(self) -> str:
        return self.ui_url.rstrip("/") if self.ui_url else "../.."


def artifact_key(slug: str) -> str:
    """The key of a connection's artifact."""
    return f"connection-{slug}"


def fleet_headline(report: FleetReport) -> str:
    """One line for the artifact's description and the run: how the fleet is."""
    total = report.connections
    if not total:
        return "No connections yet"
    waiting = total - report.troubles_total - report.by_health.get(Health.healthy, 0)
    tail = f" ({waiting:,} not live yet)" if waiting > 0 else ""
    if report.troubles_total:
        verb = "is" if report.troubles_total == 1 else "are"
        return f"{report.troubles_total:,} of {total:,} connections {verb} in trouble{tail}"
    if waiting > 0:
        return f"No trouble among {total:,} connections{tail}"
    return (
        f"All {total:,} connections are healthy" if total > 1 else "The one connection is healthy"
    )


def connection_headline(report: ConnectionReport) -> str:
    """One line for the artifact's description: which connection, and how it is."""
    shown = look(report.connection.health)
    return f"{shown.sign} {text(report.label)}: {shown.words}"


def fleet_markdown(report: FleetReport, links: ReportLinks) -> str:
    """The artifact `fleet`."""
    counts = [
        f"{one.sign} {report.by_health[health]:,} {one.words}"
        for health, one in LOOKS.items()
        if report.by_health.get(health)
    ]
    parts = [
        f"# {fleet_headline(report)}",
        " · ".join([f"{report.at:%Y-%m-%d %H:%M} UTC", *counts]),
        image("Connections by health over time", states_over_time(report.history)),
        _bar_length(report),
    ]
    if report.troubles:
        rows = _as_fit(_trouble(one, report.at, links) for one in report.troubles)
        more = report.troubles_total - len(rows)
        parts += [
            "## In trouble",
            "Critical customers (❗) first, then the newest.",
            table(
                ["Health", "Connection", "Last answer", "Incident"],
                rows,
            ),
            f"… and {more:,} more: `linekeeper connection list` shows all." if more > 0 else "",
        ]
    parts += [
        "## Apps",
        table(
            ["App", "Mode", "Connections", "Healthy", "Last listed", "Note"],
            (_app(one, report.at) for one in report.apps),
        ),
        "Setup: " + (" · ".join(f"{n:,} {text(s)}" for s, n in sorted(report.by_setup.items())))
        if report.by_setup
        else "No connection is known yet: the next `health-sweep` adopts what Makini lists.",
    ]
    if report.tokenless_total:
        more = report.tokenless_total - len(report.tokenless)
        parts += [
            "## Without a token",
            f"{report.tokenless_total:,} can be judged by Makini's list alone: "
            + ", ".join(text(name) for name in report.tokenless)
            + (f", and {more:,} more." if more > 0 else "."),
            "In mode `manage` tokens are fetched where Makini hands them out; "
            "`linekeeper connection add` takes one by hand.",
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def connection_markdown(report: ConnectionReport, links: ReportLinks) -> str:
    """The artifact `connection-<slug>`."""
    one, now = report.connection, report.at
    changes = [
        Change(change.at, change.before, change.after)
        for change in reversed(report.transitions)
        if change.axis == "health"
    ]
    check = links.check(one.id)
    parts = [
        f"# {connection_headline(report)}",
        " · ".join(
            [
                f"since {when(one.health_since, now)}",
                *([f"[check it now]({check})"] if check else []),
                f"[fleet]({links.artifact('fleet')})",
            ]
        ),
        image("Health of this connection over time", timeline(changes, now, one.health)),
        "## What happens next",
        next_step(report),
        "## Open incidents",
        table(
            ["Incident", "Opened", "Acknowledged"],
            (
                [text(incident.title, MAX_MESSAGE), when(incident.opened_at, now), _taken(incident)]
                for incident in report.incidents
            ),
        )
        if report.incidents
        else "None.",
        "## What it is",
        table(["", ""], _facts(report)),
        "Makini's support asks for the connection and the request ids below.",
        "## What changed",
        table(
            ["When", "Change", "Told by", "Evidence"],
            (
                [
                    when(change.at, now),
                    f"{text(change.axis)}: {_state(change.axis, change.before)} → "
                    f"{_state(change.axis, change.after)}",
                    text(change.source),
                    _evidence(change.evidence),
                ]
                for change in report.transitions
            ),
        )
        if report.transitions
        else "Nothing yet.",
        "## What was seen",
        "Good answers that change nothing are not listed.",
        table(
            ["When", "Source", "Outcome", "Answer"],
            (
                [
                    when(seen.at, now),
                    text(seen.source),
                    text(seen.outcome.replace("_", " "))
                    + ("" if seen.applied else " (older than what is known: changed nothing)"),
                    _joined(
                        _answer(seen.code, seen.message, seen.request_id).removeprefix("—"),
                        f"{seen.latency:.2f} s" if seen.latency is not None else "",
                    ),
                ]
                for seen in report.observations
            ),
        )
        if report.observations
        else "Nothing yet.",
    ]
    return "\n\n".join(parts) + "\n"


_NEXT = {
    Health.healthy: "Nothing is wrong.",
    Health.degraded: (
        "It answers, but it is slow, keeps falling, or its sync fails or is stale (see below). "
        "It is healthy again by itself once that is over."
    ),
    Health.unreachable: (
        "The customer's system, or Makini's way to it, does not answer. The login is not the "
        "problem. One good answer brings it back and closes the incident."
    ),
    Health.reauthorization_required: (
        "The login no longer works: the customer has to sign in again through Makini. "
        "Waiting does not mend it. Once a probe finds it well the incident is closed."
    ),
    Health.inactive: (
        "Makini holds it inactive, which means too few credits: add some or reactivate it in "
        "Makini's dashboard. The next sweep notices."
    ),
    Health.unknown: (
        "Nobody knows: it was not judged yet, or Makini said something Linekeeper does not know "
        "(see below). Once a connection is live that counts as trouble."
    ),
}


def next_step(report: ConnectionReport) -> str:
    """What will happen by itself, and what somebody has to do."""
    one = report.connection
    if one.setup == "disconnected":
        return "It was disconnected: nothing is checked any more."
    words = [_NEXT.get(Health(one.health) if one.health in LOOKS else Health.unknown, "")]
    if one.next_probe_at is not None:
        due = one.next_probe_at <= report.at
        after = "with the next sweep" if due else f"from {when(one.next_probe_at, report.at)} on"
        words.append(f"It is probed {after}.")
    if not report.has_token:
        words.append(
            "Linekeeper has no token for it, so Makini's list is all it is judged by: "
            "`linekeeper connection add` takes one."
        )
    return " ".join(words)


def _bar_length(report: FleetReport) -> str:
    if len(report.history) < 2:
        return ""
    step = report.history[1].start - report.history[0].start
    minutes = int(step.total_seconds() // 60)
    length = "minute" if minutes == 1 else f"{minutes} minutes"
    return f"Each bar shows the worst moment of its {length}."


def _trouble(one: TroubleLine, now: datetime, links: ReportLinks) -> list[str]:
    shown = look(one.health)
    page, check = links.artifact(artifact_key(one.slug)), links.check(one.id)
    checked = f"checked {ago(one.last_checked_at, now)}" if one.last_checked_at else "never checked"
    seen = one.answer
    return [
        f"{shown.sign} {shown.words} since {when(one.since, now)}",
        _joined(
            f"{'❗ ' if one.critical else ''}[{text(one.label)}]({page})",
            text(one.name) if _letters(one.name) != _letters(one.label) else "",
            text(one.hosting),
            text(one.app),
            f"[check]({check})" if check else "",
        ),
        _joined(_answer(seen.code, seen.message, seen.request_id) if seen else "", checked),
        f"{text(one.incident.title)}: {_taken(one.incident)}" if one.incident else "—",
    ]


def _answer(said: str | None, message: str | None, request_id: str | None) -> str:
    return _joined(
        code(said) if said else "",
        text(message, MAX_MESSAGE) if message else "",
        f"request {code(request_id)}" if request_id else "",
    )


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part) or "—"


def _letters(value: str) -> str:
    return "".join(char for char in value.casefold() if char.isalnum())


def _as_fit(rows: Iterable[list[str]]) -> list[list[str]]:
    fitting: list[list[str]] = []
    size = 0
    for row in rows:
        size += sum(len(cell.encode()) + 3 for cell in row)
        if size > MAX_TABLE_BYTES:
            break
        fitting.append(row)
    return fitting


def _taken(incident: OpenIncident) -> str:
    if incident.acknowledged_at is None:
        return "not acknowledged"
    return f"acknowledged by {text(incident.acknowledged_by)}"


def _app(one: AppLine, now: datetime) -> list[str]:
    return [
        text(one.name),
        text(one.mode) if one.mode else "not configured",
        f"{one.connections:,}",
        f"{one.healthy:,}",
        when(one.last_list_at, now),
        text(one.note, MAX_MESSAGE),
    ]


def _facts(report: ConnectionReport) -> Iterable[Sequence[str]]:
    one, customer, now = report.connection, report.customer, report.at
    owner = text(customer.name) if customer is not None else "—"
    yield "Customer", owner + (" · critical" if customer is not None and customer.critical else "")
    yield "Looked after by", text(customer.owner if customer is not None else None)
    yield "Name at Makini", text(one.name)
    yield "Makini's key", code(one.makini_key)
    yield "Makini's id", code(one.makini_id)
    yield "App", f"{text(one.app)} ({text(report.mode) if report.mode else 'not configured'})"
    yield "Provider", text(one.provider)
    yield "Hosting, tier", f"{text(one.hosting)}, {text(one.tier)}"
    yield "Tags", text(", ".join(one.tags), MAX_MESSAGE)
    yield "Setup", text(one.setup)
    yield "Status in Makini's list", text(one.list_status)
    yield "Sync status", text(one.sync_status)
    yield "Token", "yes" if report.has_token else "none"
    yield "Last checked", when(one.last_checked_at, now)
    yield "Last good answer", when(one.last_good_at, now)
    yield "Last sync", when(one.last_sync_at, now)
    yield "Last webhook", when(one.last_webhook_at, now)
    yield "Next probe", when(one.next_probe_at, now)


def _state(axis: str, state: str) -> str:
    if axis != "health":
        return text(state)
    return f"{look(state).sign} {text(state.replace('_', ' '))}"


def _evidence(evidence: Mapping[str, Any]) -> str:
    return _joined(
        *(
            f"request {code(str(value))}"
            if name == "request_id"
            else f"{text(name)} {text(str(value), MAX_MESSAGE)}"
            for name, value in list(evidence.items())[:8]
        )
    )
