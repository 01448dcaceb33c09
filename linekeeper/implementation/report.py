"""The artifacts `implementation-<slug>` and `portfolio` as Markdown. Pure; times are UTC.

Whatever came from a form is shown as text and nothing else (`linekeeper.markdown`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from linekeeper.access.page_links import seen_in_words
from linekeeper.implementation.chart import gantt
from linekeeper.implementation.evaluate import SETTLED
from linekeeper.implementation.headline import headline
from linekeeper.implementation.news import implementation_key
from linekeeper.implementation.plan import PlannedGate
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.proofs import troubles
from linekeeper.implementation.queries import UNDERWAY
from linekeeper.implementation.standing import TURNS, WHOSE, turn_of
from linekeeper.markdown import MAX_MESSAGE, image, link, literal
from linekeeper.notify.view import Links
from linekeeper.people import person
from linekeeper.store.tables import Gate, Implementation
from linekeeper.text import sentences

PORTFOLIO = "portfolio"
"""The key of the artifact of all implementations."""
MATTER_MOST = 3
SLIPPING_SHOWN = 10
"""So many of those that slip are told of above the portfolio's table, which has them all."""


def handover_key(slug: str) -> str:
    """The key of what the customer's IT is handed."""
    return f"handover-{slug}"


def implementation_markdown(progress: Progress, now: datetime, links: Links) -> str:
    """One implementation: how it stands, its Gantt, who is waited for, every gate."""
    implementation = progress.standing.implementation
    svg = gantt(
        progress.outlook, implementation.title, implementation.live_at or now, progress.evaluation
    )
    parts = [
        f"# {literal(implementation.title)}",
        f"written {now:%Y-%m-%d %H:%M} UTC",
        *headline(progress, now),
        image("Gantt: planned, actual, forecast", svg),
        *_in_trouble(progress, links),
        *_open(progress, links),
        "## Steps",
        _gates(progress, links),
        *_matters(progress),
    ]
    if url := links.artifact(handover_key(implementation.slug)):
        parts.append(f"[Hand-over for the customer's IT]({url})")
    if implementation.status in UNDERWAY and (
        url := links.form("implementation-change", {"implementation": implementation.slug})
    ):
        parts.append(f"[Change dates or owner]({url})")
        parts += [
            f"[{what}]({form})"
            for what, name in (
                ("Skip a step", "implementation-skip"),
                ("Abandon", "implementation-abandon"),
            )
            if (form := links.form(name, {"implementation": implementation.slug}))
        ]
    if implementation.run_id and (url := links.run(implementation.run_id)):
        parts.append(f"[Its graph, from kickoff to go-live]({url})")
    if url := links.artifact(PORTFOLIO):
        parts.append(f"[All implementations]({url})")
    return "\n\n".join(parts) + "\n"


def _in_trouble(progress: Progress, links: Links) -> Iterable[str]:
    """Systems that were connected and don't work, and whether incidents notify of it, too."""
    implementation = progress.standing.implementation
    found_troubles = troubles(progress.lacks)
    if not found_troubles or implementation.status not in UNDERWAY:
        return
    yield "## In trouble"
    lines = []
    for trouble in found_troubles:
        wanted: dict[str, str] = {"connection": trouble.connection_id}
        if trouble.health == "disconnected":
            wanted = {"customer": progress.standing.customer.name, "system": trouble.system}
            wanted["app"] = implementation.app
        form, what = ("check-connection", "Check now")
        if trouble.health in ("disconnected", "reauthorization_required"):
            form, what = ("connect", "Get the link")
        url = links.form(form, wanted)
        announced = _ANNOUNCED if trouble.is_announced else _SILENT
        lines.append(
            f"- **{literal(trouble.system)}** since {trouble.since:%Y-%m-%d %H:%M} UTC: "
            f"{literal(trouble.sentence)} {announced}" + (f" [{what}]({url})" if url else "")
        )
    yield "\n".join(lines)


_ANNOUNCED = "It was in use before the start: its alerts and mails go on."
_SILENT = "Before the go-live it causes no alert and no mail."


def _open(progress: Progress, links: Links) -> Iterable[str]:
    """What is open: who is waited for, with the form to answer; what proves itself, with the form
    that brings it on. A list, since Prefect's pages cut wide tables off."""
    gates = {gate.id: gate for gate in progress.outlook.plan.gates}
    if progress.standing.implementation.status not in UNDERWAY:
        return
    lines = []
    for identifier in progress.evaluation.having("open", "blocked"):
        row = progress.standing.gates[identifier]
        title = link(row.title, links.run(row.run_id) if row.run_id else None, MAX_MESSAGE)
        if row.work_run_id and (url := links.run(row.work_run_id)):
            title += f" ([its run]({url}))"
        who = f"{literal(person(row.assignee).shown)}, " if row.check_name is None else ""
        late = _LATE[progress.evaluation.late.get(identifier)]
        turn = "on hold, open" if progress.standing.held else TURNS.get(turn_of(row), "")
        said = _cell(_said(progress, row))
        lines.append(
            f"- {title}: {who}{turn} since {row.opened_at:%Y-%m-%d}{late}"
            + (f". {'Blocked: ' if row.status == 'blocked' else ''}{said}" if said else "")
            + _ask_for(progress, gates[identifier], links)
        )
    if lines:
        yield "## Open now"
        yield "\n".join(lines)
        if progress.standing.page is not None:
            yield f"The customer's own page: {seen_in_words(progress.standing.page)}."


_LATE = {None: "", "soon": " · **late soon**", "overdue": " · **overdue**"}


def _gates(progress: Progress, links: Links) -> str:
    lines = ["| Step | Waiting on | When | Evidence |", "|---|---|---|---|"]
    outlook = progress.outlook
    goes_on = progress.standing.implementation.status in UNDERWAY
    for gate in outlook.plan.gates:
        row = progress.standing.gates[gate.id]
        likely = outlook.calendar.finish(outlook.start, outlook.forecast.gates[gate.id].finish_p50)
        shown = row.work_run_id or (row.run_id if row.status not in SETTLED else None)
        url = links.run(shown) if shown else None
        title = link(row.title, url, MAX_MESSAGE)
        if gate.id in outlook.plan.critical_path:
            title = f"**{title}**"
        late = _LATE[progress.evaluation.late.get(gate.id)] if goes_on else ""
        when = _when(row, likely if goes_on else None) + late
        lines.append(
            f"| {title} | {WHOSE.get(turn_of(row), row.owner)} | {when} | "
            f"{_evidence(progress, row)} |"
        )
    return "\n".join(lines)


def _ask_for(progress: Progress, gate: PlannedGate, links: Links) -> str:
    """The form that brings on what an open automatic gate waits for."""
    standing = progress.standing
    if standing.gates[gate.id].status != "open":
        return ""
    system, customer = standing.system(gate.system), standing.customer.name
    known = {"connection": system.connection_id} if system and system.connection_id else None
    url = what = None
    if gate.check == "preflight_passed":
        what, url = "Check now", links.form("preflight", {"system": customer})
    elif gate.check == "token_works" and system is not None and known is None:
        wanted = {"customer": customer, "system": system.name, "app": standing.implementation.app}
        what, url = "Get the link", links.form("connect", wanted)
    elif gate.check in ("token_works", "first_sync_done") and known is not None:
        what, url = "Check now", links.form("check-connection", known)
    elif gate.check == "drift_zero" and known is not None:
        what, url = "Read it now", links.form("reconcile", {"connections": list(known.values())})
    return f" [{what}]({url})" if url else ""


def _when(row: Gate, likely: date | None) -> str:
    expected = f"likely {likely}" if likely else "not reached"
    match row.status:
        case "done":
            return f"✓ {row.done_at:%Y-%m-%d}"
        case "skipped":
            return "– skipped"
        case "open" if likely:
            return f"▶ since {row.opened_at:%m-%d}, {expected}"
        case "blocked" if likely:
            return f"■ blocked, {expected}"
    return expected


def _evidence(progress: Progress, row: Gate) -> str:
    """What is open says more where it is listed as such."""
    return "" if row.status in ("open", "blocked") else _cell(_said(progress, row))


def _said(progress: Progress, row: Gate) -> str:
    by = f" ({row.done_by})" if row.done_by else ""
    if row.status == "skipped":
        return f"{row.skipped_because}{by}"
    if row.status == "done":
        return f"{row.evidence}{by if row.check_name is None else ''}"
    if row.status == "blocked":
        return str(row.blocks[-1]["because"])
    if row.status == "open":
        lack = progress.lacks.get(row.gate)
        return lack.text if lack else row.note
    return f"not before {row.earliest}" if row.earliest else ""


def _matters(progress: Progress) -> Iterable[str]:
    if progress.standing.implementation.status not in UNDERWAY:
        return
    ranked = progress.outlook.forecast.matter_most(MATTER_MOST)
    if ranked:
        named = ", ".join(
            f"{literal(progress.standing.gates[gate].title)} ({gate_forecast.days:.1f} days)"
            for gate, gate_forecast in ranked
        )
        yield f"What matters most for the date: {named}."


@dataclass(frozen=True, slots=True)
class PortfolioLine:
    """One implementation in the portfolio."""

    implementation: Implementation
    waiting: tuple[Gate, ...] = ()
    """Open gates, the oldest first."""


def portfolio_markdown(lines: Sequence[PortfolioLine], now: datetime, links: Links) -> str:
    """All implementations, those at risk first."""
    underway = [line for line in lines if line.implementation.status in ("running", "held")]
    live = [line for line in lines if line.implementation.status == "live"]
    at_risk = sorted(underway, key=_risk)
    slipping = [line.implementation.digest for line in at_risk if line.implementation.digest]
    parts = [
        "# Implementations",
        f"{len(underway)} underway, {len(slipping)} of them slipping; {len(live)} live. "
        f"As of {now:%Y-%m-%d %H:%M} UTC.",
    ]
    if slipping:
        rows = [f"- {literal(line)}" for line in slipping[:SLIPPING_SHOWN]]
        if (more := len(slipping) - SLIPPING_SHOWN) > 0:
            rows.append(f"- and {more:,} more, by risk in the list below")
        parts.append("\n".join(rows))
    if underway:
        parts.append("## Underway")
        parts.append("\n".join(_underway(line, links) for line in at_risk))
    if live:
        rows = ["## Live", "", "| Implementation | Live | Planned | Days | Planned days |"]
        rows.append("|---|---|---|--:|--:|")
        for ended in sorted(live, key=lambda item: item.implementation.id, reverse=True):
            facts = ended.implementation.actual
            rows.append(
                f"| {_linked(ended.implementation, links)} | {facts.get('live')} | "
                f"{facts.get('planned')} | {facts.get('days')} | {facts.get('days_planned')} |"
            )
        parts.append("\n".join(rows))
    if not lines:
        parts.append("None was started yet: use the form of the deployment `implementation`.")
    return "\n\n".join(parts) + "\n"


def _underway(line: PortfolioLine, links: Links) -> str:
    """One line; in a table what is waited for, the longest, would be cut."""
    implementation = line.implementation
    parts = [f"{round(100 * implementation.progress)} % done", f"likely live {implementation.p50}"]
    if implementation.p50 != implementation.p80:
        parts[-1] += f" to {implementation.p80:%m-%d}"
    if implementation.committed is not None:
        chance = round(100 * (implementation.chance or 0))
        parts.append(
            f"committed {implementation.committed} ({implementation.commitment}, {chance} %)"
        )
    if implementation.status == "held":
        parts.append("on hold")
    waiting = sentences(
        (f"{WHOSE.get(turn_of(gate), gate.owner)}: {gate.title}" for gate in line.waiting), 2
    )
    owner = literal(person(implementation.owner).shown)
    waits = f". Waiting for {_cell(waiting)}" if waiting else ""
    return f"- {_linked(implementation, links)} ({owner}): {', '.join(parts)}{waits}"


def _risk(line: PortfolioLine) -> tuple[int, float, date]:
    implementation = line.implementation
    order = {"late": 0, "at risk": 1}.get(
        implementation.commitment, 2 if implementation.digest else 3
    )
    return (
        order,
        implementation.chance if implementation.chance is not None else 1.0,
        implementation.p50,
    )


def _linked(implementation: Implementation, links: Links) -> str:
    url = links.artifact(implementation_key(implementation.slug))
    return link(implementation.title, url, MAX_MESSAGE)


def _cell(words: str) -> str:
    return literal(words, MAX_MESSAGE)
