"""The artifact `fleet` as Markdown. Pure; times are shown in UTC."""

from collections.abc import Iterable

from linekeeper.health.evidence import Evidence, Health
from linekeeper.markdown import image, link, table, text, when
from linekeeper.notify.view import Links
from linekeeper.text import counted, letters
from linekeeper.views.evidence import counts_by_look, evidence_sentence, how_to_verify
from linekeeper.views.fleet_models import AppLine, FleetReport, TroubleLine
from linekeeper.views.health_chart import look, states_over_time
from linekeeper.views.managed import managed_sentence
from linekeeper.views.parts import answer, artifact_key, joined, taken
from linekeeper.views.windows import WindowGlance

MAX_LIST_BYTES = 400_000
"""The fleet's troubles end there, so that the artifact stays under half a megabyte."""


def fleet_headline(report: FleetReport) -> str:
    """One line for the artifact's description and the run: how the fleet is.

    Where nobody has looked for a while it says since when, and what was known then.
    """
    known = _known(report)
    if report.unchecked_since is None:
        return known
    since = when(report.unchecked_since)
    return f"No sweep since {since}. Known then: {known[0].lower()}{known[1:]}"


def _known(report: FleetReport) -> str:
    total = report.connections
    if not total:
        return "No connections yet"
    waiting = total - report.troubles_total - report.by_health.get(Health.healthy, 0)
    tail = f" ({waiting:,} not live or not checked yet)" if waiting > 0 else ""
    if report.troubles_total:
        verb = "is" if report.troubles_total == 1 else "are"
        return f"{report.troubles_total:,} of {total:,} connections {verb} in trouble{tail}"
    connections = counted(total, "connection")
    if report.evidence.get(Evidence.listed):
        # Listed as active is not known to be well.
        return f"No trouble known of {connections}: {evidence_sentence(report.evidence)}"
    if waiting > 0:
        return f"No trouble among {connections}{tail}"
    return (
        f"All {total:,} connections are healthy" if total > 1 else "The one connection is healthy"
    )


def fleet_markdown(report: FleetReport, links: Links) -> str:
    counts = [
        f"{shown.sign} {number:,} {shown.words}"
        for _, shown, number in counts_by_look(report.by_health, report.evidence)
    ]
    parts = [
        f"# {fleet_headline(report)}",
        " · ".join([f"written {report.at:%Y-%m-%d %H:%M:%S} UTC", *counts]),
        _modes(report),
        _evidence(report),
        image(
            "Connections by health over time",
            states_over_time(report.history, report.evidence.get(Evidence.listed, 0)),
        ),
        _bar_length(report),
        "Changes since that sweep are here only if a webhook reported them; `linekeeper doctor` "
        "says why no sweep was completed."
        if report.unchecked_since
        else "",
    ]
    if report.troubles:
        rows = _as_fit(_trouble(trouble_line, links) for trouble_line in report.troubles)
        remaining = report.troubles_total - len(rows)
        parts += [
            "## In trouble",
            "Critical customers (❗) first, then the newest.",
            "\n".join(rows),
            f"… and {remaining:,} more: `linekeeper connection list` shows all."
            if remaining > 0
            else "",
        ]
    if report.windows.total:
        parts += [
            "## Maintenance windows and mutes",
            "Trouble of these is recorded, and nobody is notified of it.",
            "\n".join(map(_window, report.windows.shown)),
            report.windows.remaining,
        ]
    parts += [
        "## Apps",
        "\n".join(map(_app, report.apps)),
        "Setup: " + (" · ".join(f"{n:,} {text(s)}" for s, n in sorted(report.by_setup.items())))
        if report.by_setup
        else "No connection is known yet: the next `health-sweep` adopts what Makini lists.",
    ]
    spenders = [app for app in report.apps if app.spent]
    if spenders:
        parts += [
            "## Calls to Makini",
            table(
                ["App", "For", "This hour", "In 24 h", "A minute", "Answered 429"],
                (row for app in spenders for row in _spent(app)),
            ),
            *(f"{text(app.name)}: {app.stated}." for app in spenders if app.stated),
            "*product* is what the product reports of its own calls; what it does not report is "
            "not known. Nothing is counted where no limit is set.",
        ]
    if report.tokenless_total:
        remaining = report.tokenless_total - len(report.tokenless)
        parts += [
            "## Without a token",
            f"{report.tokenless_total:,} can be judged by Makini's list alone: "
            + ", ".join(text(name) for name in report.tokenless)
            + (f", and {remaining:,} more." if remaining > 0 else "."),
            "`linekeeper tokens import` takes those that your product lends. In mode `manage` "
            "Linekeeper has Makini mint them where Makini does that, which may end your product's.",
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _modes(report: FleetReport) -> str:
    said = managed_sentence((app.managed for app in report.apps), map(text, report.mode_rules))
    return f"Mode by connection: {said}." if said else ""


def _evidence(report: FleetReport) -> str:
    said = evidence_sentence(report.evidence)
    if not said:
        return ""
    observed = any(app_line.managed.observed for app_line in report.apps)
    return f"Evidence of the healthy: {said}. {how_to_verify(report.evidence, observed=observed)}"


def _bar_length(report: FleetReport) -> str:
    if len(report.history) < 2:
        return ""
    step = report.history[1].start - report.history[0].start
    minutes = int(step.total_seconds() // 60)
    length = "minute" if minutes == 1 else f"{minutes} minutes"
    return f"Each bar shows the worst moment of its {length}."


def _trouble(trouble_line: TroubleLine, links: Links) -> str:
    """An entry of a list: Prefect's pages cut wide tables off."""
    shown = look(trouble_line.health)
    page = links.artifact(artifact_key(trouble_line.slug))
    check = links.form("check-connection", {"connection": trouble_line.id})
    checked = (
        f"checked {when(trouble_line.last_checked_at)}"
        if trouble_line.last_checked_at
        else "never checked"
    )
    seen = trouble_line.answer
    named = joined(
        f"{'❗ ' if trouble_line.critical else ''}**{link(trouble_line.label, page)}**",
        text(trouble_line.name)
        if letters(trouble_line.name) != letters(trouble_line.label)
        else "",
        text(trouble_line.hosting),
        text(trouble_line.app),
        f"[check]({check})" if check else "",
    )
    last = joined(answer(seen.code, seen.message, seen.request_id) if seen else "", checked)
    incident = trouble_line.incident
    is_its_own = incident is not None and incident.title == trouble_line.label
    of_incident = "" if incident is None or is_its_own else f" {text(incident.title)}:"
    state = f" Incident{of_incident or ':'} {taken(incident)}." if incident else ""
    return (
        f"- {shown.sign} {shown.words} since {when(trouble_line.since)}: {named}. "
        f"Last answer: {last}.{state}"
    )


def _window(window: WindowGlance) -> str:
    """An entry of a list: Prefect's pages cut wide tables off."""
    until = when(window.until) if window.until else "it is ended"
    why = f": {text(window.reason)}" if window.reason else ""
    return f"- **{text(window.label)}**: {window.name} until {until}, set by {text(window.by)}{why}"


def _as_fit(rows: Iterable[str]) -> list[str]:
    fitting: list[str] = []
    size = 0
    for row in rows:
        size += len(row.encode()) + 1
        if size > MAX_LIST_BYTES:
            break
        fitting.append(row)
    return fitting


def _spent(app: AppLine) -> list[list[str]]:
    return [
        [
            f"{text(app.name)} (at most {app.calls_per_minute:,} a minute)",
            part.purpose,
            f"{part.this_hour:,}",
            f"{part.day:,}",
            f"{part.per_minute:.1f}",
            f"{part.refused:,}",
        ]
        for part in app.spent
    ]


def _mode(app_line: AppLine) -> str:
    mode = text(app_line.mode) if app_line.mode else "not configured"
    is_other = app_line.managed.managed if app_line.mode != "manage" else app_line.managed.observed
    return f"{mode} ({managed_sentence([app_line.managed])})" if is_other else mode


def _app(app_line: AppLine) -> str:
    """An entry of a list: Prefect's pages cut wide tables off."""
    asked = app_line.healthy - app_line.listed
    listed = f", {app_line.listed:,} listed as active" if app_line.listed else ""
    late = (
        f"{app_line.left_out:,} that were due wait for a later sweep, because the call budget is "
        "used up"
    )
    facts = joined(
        _mode(app_line),
        f"{counted(app_line.connections, 'connection')}: {asked:,} healthy{listed}",
        f"last listed {when(app_line.last_list_at)}" if app_line.last_list_at else "never listed",
        late if app_line.left_out else "",
    )
    return f"- **{text(app_line.name)}**: {facts}"
