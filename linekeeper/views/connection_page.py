"""The artifact `connection-<slug>` as Markdown. Pure; times are shown in UTC."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from linekeeper.health.evidence import Health
from linekeeper.health.token_missing import TOKEN_MISSING, is_token_missing
from linekeeper.incidents.kinds import meaning
from linekeeper.markdown import MAX_MESSAGE, code, image, literal, table, text, when
from linekeeper.notify.merged import FLEET
from linekeeper.notify.view import Links
from linekeeper.people import person
from linekeeper.store.tables import Observation, Transition
from linekeeper.text import health_name, is_only_listed
from linekeeper.tokens.lost_renewal import RENEWAL_LOST
from linekeeper.views.fleet_models import (
    OBSERVATIONS_SHOWN,
    TRANSITIONS_SHOWN,
    ConnectionReport,
)
from linekeeper.views.health_chart import LOOKS, Turned, look, look_of, timeline
from linekeeper.views.parts import answer, joined, taken


def connection_headline(report: ConnectionReport) -> str:
    """One line for the artifact's description: which connection, and how it is."""
    shown = look_of(report.connection.health, report.connection.evidence)
    return f"{shown.sign} {report.label}: {shown.words}"


def connection_markdown(report: ConnectionReport, links: Links) -> str:
    """The artifact `connection-<slug>`."""
    connection = report.connection
    changes = [
        Turned(change.at, change.before, change.after)
        for change in reversed(report.transitions)
        if change.axis == "health"
    ]
    known = min((change.at for change in report.transitions), default=connection.health_since)
    chart = timeline(
        changes,
        report.at,
        connection.health,
        since=known,
        only_listed=is_only_listed(connection.health, connection.evidence),
    )
    check = links.form("check-connection", {"connection": connection.id})
    parts = [
        f"# {literal(connection_headline(report))}",
        " · ".join(
            [
                f"since {when(connection.health_since)}",
                f"written {report.at:%Y-%m-%d %H:%M:%S} UTC, and again when any of this changes",
                *([f"[check it now]({check})"] if check else []),
                f"[fleet]({links.artifact(FLEET)})",
            ]
        ),
        image("Health of this connection over time", chart),
        "## What happens next",
        next_step(report),
        "## Open incidents",
        table(
            ["Incident", "Opened", "Acknowledged", "Who was notified?"],
            (
                [
                    text(incident.title, MAX_MESSAGE),
                    when(incident.since),
                    taken(incident),
                    f"[explain]({url})"
                    if (url := links.form("explain", {"subject": incident.id}))
                    else "—",
                ]
                for incident in report.incidents
            ),
        )
        if report.incidents
        else "None.",
        "## Details",
        table(["Property", "Value"], _facts(report)),
        "Makini's support asks for the connection and the request ids below. `linekeeper "
        "connection show` with Makini's key says when it was last checked, read and synchronized.",
        "## State changes",
        _newest(map(_change, report.transitions), TRANSITIONS_SHOWN),
        "## Observations",
        "Good answers that change nothing are not listed.",
        _newest(map(_seen, report.observations), OBSERVATIONS_SHOWN),
    ]
    return "\n\n".join(parts) + "\n"


def _newest(lines: Iterable[str], most: int) -> str:
    shown = list(lines)
    if len(shown) > most:
        shown[most:] = ["- older ones are not on this page"]
    return "\n".join(shown) or "Nothing yet."


def _change(change: Transition) -> str:
    """One line of the state changes; a table of them would be cut where the evidence begins."""
    turned = f"{_state(change.axis, change.before)} → {_state(change.axis, change.after)}"
    why = joined(text(change.source), _evidence(change.evidence).removeprefix("—"))
    return f"- {when(change.at)}: {text(change.axis)} {turned} ({why})"


def _seen(seen: Observation) -> str:
    """One line of the observations, with the request id that Makini's support asks for."""
    outcome = text(_OUTCOMES.get(seen.outcome) or seen.outcome.replace("_", " "))
    said = joined(
        answer(seen.code, seen.message, seen.request_id).removeprefix("—"),
        f"{seen.latency:.2f} s" if seen.latency is not None else "",
    )
    unused = "" if seen.applied else " (older than what is known: changed nothing)"
    return f"- {when(seen.at)}, {text(seen.source)}: **{outcome}**{unused} · {said}"


_OUTCOMES = {"login_lost": health_name(Health.reauthorization_required)}
_NEXT = {
    Health.healthy: "Nothing is wrong.",
    Health.degraded: (
        "It answers, but it is slow, keeps falling, or its sync fails or is stale (see below). "
        "It is healthy again automatically once that is over."
    ),
    Health.unreachable: (
        "The customer's system, or Makini's way to it, does not answer. The login is not the "
        "problem. One good answer brings it back and closes the incident."
    ),
    Health.reauthorization_required: (
        "Reauthorization required: the customer has to log in again through Makini. Waiting does "
        "not fix it. Once a probe finds that the login works, the incident is closed."
    ),
    Health.inactive: (
        "Makini holds it inactive, which means too few credits: add some or reactivate it in "
        "Makini's dashboard. The next sweep notices."
    ),
    Health.unknown: (
        "Its health is not known: it was not checked yet, Makini gives no status that "
        "Linekeeper understands, or the evidence contradicts itself (see below). Once a "
        "connection is live, that counts as a problem."
    ),
}


def next_step(report: ConnectionReport) -> str:
    """What will happen by itself, and what somebody has to do."""
    connection = report.connection
    if connection.setup == "disconnected":
        return "It was disconnected: nothing is checked any more."
    health = Health(connection.health) if connection.health in LOOKS else Health.unknown
    words = [_NEXT.get(health, "")]
    if health is Health.degraded and (cause := str(connection.judged.get("degraded_by") or "")):
        words = [f"{meaning(health, cause)} It is healthy again automatically once that is over."]
    if health is Health.reauthorization_required and is_token_missing(connection.judged):
        words = [f"{meaning(health, TOKEN_MISSING)} A login by the connect link brings one."]
    elif health is Health.reauthorization_required and report.is_renewal_lost:
        words = [meaning(health, RENEWAL_LOST)]
    if health is Health.reauthorization_required and (kept := report.login_kept) is not None:
        while_away = " while the system did not answer Makini" if kept.is_system_away else ""
        words = [
            f"Reauthorization required: somebody logged in at {when(kept.at)}{while_away}. That "
            "login is kept and verified as soon as Makini and the system answer; if it works, the "
            "incident is closed."
        ]
    if is_only_listed(connection.health, connection.evidence):
        words = [
            "No trouble is known: Makini's list calls it active. Whether its login works was not "
            "asked."
        ]
    if not report.has_token:
        words.append(
            "Linekeeper has no token for it, so it is judged by Makini's list alone: `linekeeper "
            "tokens import` takes one that your product lends."
        )
    return " ".join(words)


_EVIDENCE = {
    "listed": "listed: Makini's list is all there is to judge by",
    "probed": "probed: Makini answered a status call with its own token",
    "read": "read: a record was read with its own token",
}


def _facts(report: ConnectionReport) -> Iterable[Sequence[str]]:
    connection, customer = report.connection, report.customer
    owner = text(customer.name) if customer is not None else "—"
    yield "Customer", owner + (" · critical" if customer is not None and customer.critical else "")
    yield "Owner", text(person(customer.owner).shown if customer is not None else None)
    yield "Name at Makini", text(connection.name)
    yield "Makini's key", code(connection.makini_key)
    yield "Makini's id", code(connection.makini_id) if connection.makini_id else "not known yet"
    yield (
        "App",
        f"{text(connection.app)} ({text(report.mode) if report.mode else 'not configured'})",
    )
    yield "Provider", text(connection.provider)
    yield "Hosting, tier", f"{text(connection.hosting)}, {text(connection.tier)}"
    yield "Tags", text(", ".join(connection.tags), MAX_MESSAGE)
    yield "Setup", text(connection.setup)
    yield "Status in Makini's list", text(connection.list_status)
    yield "Sync status", text(connection.sync_status)
    yield "Token", "yes" if report.has_token else "none"
    yield "Evidence", _EVIDENCE.get(connection.evidence or "", "none yet")


def _state(axis: str, state: str) -> str:
    if axis != "health":
        return text(state)
    return f"{look(state).sign} {text(health_name(state))}"


def _evidence(evidence: Mapping[str, Any]) -> str:
    return joined(
        *(
            f"request {code(str(value))}"
            if name == "request_id"
            else f"{text(name)} {text(str(value), MAX_MESSAGE)}"
            for name, value in list(evidence.items())[:8]
        )
    )
