"""The artifact `webhook-trust` as Markdown. Pure; times are shown in UTC."""

from datetime import timedelta

from linekeeper.charts import GREEN, GREY, RED, YELLOW, Bars, draw_bars
from linekeeper.markdown import image, text, when
from linekeeper.notify.view import Links
from linekeeper.reconcile.completeness import worst_first
from linekeeper.reconcile.outage import SENDER_GIVES_UP
from linekeeper.reconcile.trust import BAD, GOOD, WINDOW
from linekeeper.store.tables import Deletion
from linekeeper.text import counted
from linekeeper.views.entities_part import completeness_markdown, entities_markdown
from linekeeper.views.trust_queries import TrustLine, TrustReport

KEY = "webhook-trust"
MOST_LINES = 500
_STATES = {
    "good": "🟢 good",
    "bad": "🔴 bad",
    "none": "⚫ none arrive",
    "unknown": "⚪ too few to tell",
}

_OUTAGES = {
    "receiver": "no receiver could store what it was sent",
    "standstill": "nothing of Linekeeper ran: no receiver, no sweep",
    "unreachable": "receivers ran, but no canary and no webhook came through from outside",
}


def trust_headline(report: TrustReport) -> str:
    """One line: how many changes the webhooks missed, and whose are not to be trusted."""
    measured = report.measured
    if measured.miss_rate is None:
        return f"No change was counted in the last {WINDOW.days} days"
    bad = sum(line.state == "bad" for line in report.lines)
    none = sum(line.state == "none" for line in report.lines)
    said = f"{measured.miss_rate:.1%} of {counted(measured.changes, 'change')} lost"
    if measured.caught_up:
        said += f", {measured.caught_up:,} more backfilled after our own outage"
    if bad:
        said += f", {'the webhooks of ' + counted(bad, 'connection')} can't be trusted"
    if none:
        said += f", {none:,} get none at all"
    return said


def trust_markdown(report: TrustReport, links: Links) -> str:
    """The artifact, with links to forms."""
    measured = report.measured
    rate = "—" if measured.miss_rate is None else f"{measured.miss_rate:.1%}"
    delay = "—" if measured.mean_delay is None else _minutes(measured.mean_delay)
    parts = [
        "# Webhook trust",
        f"**{trust_headline(report)}.** As of {report.now:%Y-%m-%d %H:%M} UTC, over the last "
        f"{WINDOW.days} days.",
        image("Changes announced and lost over time", draw_bars(_changes_over_time(report))),
        f"| Miss rate | **{rate}** |\n|---|--:|\n"
        f"| Lost | {measured.lost:,} |\n"
        f"| Announced | {measured.announced:,} |\n"
        f"| of them in time | {measured.webhooks_seen:,} |\n"
        f"| of them late, by the sender | {measured.late:,} |\n"
        f"| Late by, on average | {delay} |\n"
        f"| Backfilled after our own outage | {measured.caught_up:,} |",
        *_held(report, links),
        _connections(report),
        *entities_markdown(report.entities),
        *completeness_markdown(worst_first(report.entities)),
        *_outages(report),
        f"Miss rate = lost / (in time + late + lost). Above {BAD:.0%} webhooks are bad and the "
        f"connection is read more often; up to {GOOD:.0%} they are good, and it is read less. "
        "*Late*: we had found the change by reading when its delivery came. *Backfilled*: it "
        "changed while nothing could reach us, which is not the sender's fault. *Other*: other "
        "contents at the same time. What a backfill after a reconnect finds is not counted. Every "
        "change is in the index, and was forwarded, however it was found.",
    ]
    return "\n\n".join(parts) + "\n"


def _changes_over_time(report: TrustReport) -> Bars:
    """Each change counted once."""
    form = "%m-%d" if report.step >= timedelta(days=1) else "%m-%d %H:%M"
    return Bars(
        "Changes at the sources",
        [
            ("announced in time", GREEN),
            ("announced late", YELLOW),
            ("backfilled after our own outage", GREY),
            ("lost", RED),
        ],
        [
            (
                f"{point.at:{form}}",
                (point.webhooks_seen, point.late, point.caught_up, point.lost),
            )
            for point in report.points
        ],
        empty="nothing changed yet",
    )


def _connections(report: TrustReport) -> str:
    table = (
        "| Connection | Webhooks | Miss rate | Lost | In time | Late | Backfilled | Other "
        "| Deleted | Last read |\n|---|---|--:|--:|--:|--:|--:|--:|--:|---|"
    )
    for line in report.lines[:MOST_LINES]:
        table += "\n" + _row(line)
    if len(report.lines) > MOST_LINES:
        table += f"\n| and {len(report.lines) - MOST_LINES:,} more | | | | | | | | | |"
    return table if report.lines else "No connection is live yet."


def _row(line: TrustLine) -> str:
    measured = line.measured
    rate = "—" if measured.miss_rate is None else f"{measured.miss_rate:.1%}"
    late = f"{measured.late:,}"
    if measured.mean_delay is not None:
        late += f" (by {_minutes(measured.mean_delay)})"
    read = "never" if line.polled_at is None else when(line.polled_at)
    if line.trouble:
        read += f" ⚠️ {text(line.trouble, 100)}"
    state = _STATES.get(line.state, text(line.state))
    if line.since is not None and line.state in ("bad", "none"):
        state += f", since {line.since:%m-%d %H:%M}"
    return (
        f"| {text(line.label)} | {state} | {rate} | {measured.lost:,} "
        f"| {measured.webhooks_seen:,} | {late} | {measured.caught_up:,} | {line.mismatched:,} "
        f"| {line.deleted:,} | {read} |"
    )


def _held(report: TrustReport, links: Links) -> list[str]:
    if not report.held:
        return []
    table = (
        "| Connection | Records | Of | Entity | When | What you can do |\n|---|--:|--:|---|---|---|"
    )
    for label, held in report.held:
        table += (
            f"\n| {text(label)} | {held.records:,} | {held.live:,} | {text(held.entity)} "
            f"| {when(held.at)} | {_choices(held, links)} |"
        )
    if (remaining := report.held_total - len(report.held)) > 0:
        table += f"\n| and {remaining:,} more | | | | | |"
    return ["## Records that are gone at the source", table]


def _choices(held: Deletion, links: Links) -> str:
    choices = ("accept", "refuse") if held.status == "proposed" else ("undo",)
    said = "waits for you: " if held.status == "proposed" else "deleted here: "
    forms = {
        choice: links.form("deletions", {"deletion": held.id, "decision": choice})
        for choice in choices
    }
    if None in forms.values():
        return said + " or ".join(f"*{choice}*" for choice in choices) + " in the form `deletions`"
    return said + " or ".join(f"[{choice}]({form})" for choice, form in forms.items())


def _outages(report: TrustReport) -> list[str]:
    if not report.outages:
        return []
    table = "| From | To | What | Read again |\n|---|---|---|---|"
    for outage in report.outages:
        length = outage.until - outage.since
        long = " (longer than senders go on asking)" if length > SENDER_GIVES_UP else ""
        if outage.covered_at is None:
            covered = "with the next run"
        else:
            covered = (
                f"{outage.covered_at:%m-%d %H:%M}: "
                f"{outage.detail.get('connections', 0)} connections, "
                f"{outage.detail.get('recovered', 0)} backfilled"
            )
        what = _OUTAGES.get(outage.cause, text(outage.cause))
        lasted = f"{outage.since:%m-%d %H:%M} | {outage.until:%m-%d %H:%M}{long}"
        table += f"\n| {lasted} | {what} | {covered} |"
    if (remaining := report.outages_total - len(report.outages)) > 0:
        table += f"\n| and {remaining:,} more | | | |"
    return ["## Our own outages", table]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
