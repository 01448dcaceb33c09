"""`linekeeper status`: everything at a glance."""

import asyncio
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from linekeeper.implementation.glance import ImplementationsGlance
    from linekeeper.runtime import Runtime
    from linekeeper.views.glance import Glance, LeaseGlance
    from linekeeper.views.glances import InboxGlance
    from linekeeper.watch.standing import PartStanding

_STYLES = {
    "healthy": "green",
    "degraded": "yellow",
    "unreachable": "red",
    "reauthorization_required": "red",
    "inactive": "magenta",
    "unknown": "dim",
}

_STATES = {"works": "green", "done": "green", "unknown": "yellow"}


def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")] = False,
) -> None:
    """Show the fleet, incidents, inbox, implementations, what waits to be sent, and each part.

    Examples:

      linekeeper status

      linekeeper status --json | jq .health
    """
    looked = asyncio.run(_look())
    seen, standing = looked.seen, looked.parts
    if as_json:
        import json

        everything = {
            **seen.as_json(),
            "inbox": asdict(looked.inbox),
            "implementations": looked.implementations.as_json(),
            "parts": [_plain(each) for each in standing],
        }
        typer.echo(json.dumps(everything, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_shown(looked))
    console.print(_standing(standing, seen.at))


@dataclass(frozen=True, slots=True)
class _Looked:
    """Everything that is shown."""

    seen: "Glance"
    inbox: "InboxGlance"
    implementations: "ImplementationsGlance"
    parts: "Sequence[PartStanding]"


async def _look() -> _Looked:
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        return await look_at(rt)


async def look_at(rt: "Runtime") -> _Looked:
    from linekeeper.clock import utcnow
    from linekeeper.implementation.glance import implementations_at_a_glance
    from linekeeper.views.glance import glance
    from linekeeper.views.glances import inbox_at_a_glance
    from linekeeper.views.webhook_figures import read_figures
    from linekeeper.watch.standing import read_standing

    now = utcnow()
    seen = await glance(rt.store, await rt.configuration(), now=now)
    return _Looked(
        seen,
        inbox_at_a_glance(await read_figures(rt.store, list(seen.apps), now=now)),
        await implementations_at_a_glance(rt.store, now=now),
        await read_standing(rt),
    )


def _plain(standing: "PartStanding") -> dict[str, str | None]:
    since = standing.since.isoformat() if standing.since else None
    return {**asdict(standing), "since": since}


def _standing(standing: "Sequence[PartStanding]", now: datetime) -> "RenderableType":
    """Each part of Linekeeper, and since when it works or is silent; when work was last done."""
    from rich.table import Table
    from rich.text import Text

    if not standing:
        return Text("no part of Linekeeper has run here yet: start it with linekeeper up", "yellow")
    table = Table(title="Parts of Linekeeper", title_justify="left")
    for heading in ("part", "where", "state", "since"):
        table.add_column(heading, overflow="fold")
    for each in standing:
        table.add_row(
            Text(each.kind),
            Text(each.host or "-"),
            Text(each.state, _STATES.get(each.state, "red")),
            _ago(each.since, now) if each.since else "-",
        )
    return table


def _unchecked(standing: "Sequence[PartStanding]") -> "list[RenderableType]":
    """That the figures are old: no sweep was completed for so long that people are notified."""
    from rich.text import Text

    return [
        Text(f"no sweep since {part.since:%Y-%m-%d %H:%M} UTC: this is what was known then", "red")
        for part in standing
        if part.kind == "sweep" and part.state == "overdue" and part.since
    ]


def _shown(looked: _Looked) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from linekeeper.views.evidence import counts_by_look, evidence_sentence
    from linekeeper.views.managed import managed_sentence

    seen = looked.seen
    connections, customers = counted(seen.connections, "connection"), seen.customers
    fleet = Text(f"{connections} of {counted(customers, 'customer')}: ")
    counts = [
        Text(f"{number:,} {shown.words}", _STYLES.get(health, ""))
        for health, shown, number in counts_by_look(seen.health, seen.evidence)
    ]
    fleet.append_text(Text(", ").join(counts or [Text("none known yet")]))
    setup = ", ".join(f"{number:,} {setup}" for setup, number in seen.setup.items())
    parts: list[RenderableType] = [fleet, *_unchecked(looked.parts)]
    parts += [Text(f"setup at Makini: {setup or '-'}", "dim")]
    if said := managed_sentence((app.managed for app in seen.apps.values()), seen.mode_rules):
        parts.append(Text(f"mode by connection: {said}"))
    if said := evidence_sentence(seen.evidence):
        parts.append(Text(f"evidence of the healthy: {said}"))
    if seen.without_token:
        parts.append(
            Text(
                f"{seen.without_token} without a token, judged by Makini's list alone "
                "(linekeeper doctor says how to get one)"
            )
        )
    if seen.webhooks.states:
        parts.append(Text(seen.webhooks.sentence))
    if seen.records.entities:
        parts.append(Text(seen.records.sentence))
    inbox, implementations = looked.inbox, looked.implementations
    slips = implementations.late or implementations.overdue_steps
    parts += [
        _incidents(seen),
        *_windows(seen),
        Text(inbox.sentence, "red" if inbox.dead else ""),
        Text(implementations.sentence, "red" if slips else ""),
        _apps(seen),
        *_spent(seen),
        *_outbox(seen),
    ]
    if seen.leases:
        parts.append(Text(f"under way: {under_way(seen.leases)}", "dim"))
    return Group(*parts)


def under_way(leases: "Sequence[LeaseGlance]") -> str:
    """What is being done, and by whom; of single connections only how many. Pure."""
    from linekeeper.store.leases import is_about_one

    of_one = {lease.subject for lease in leases if is_about_one(lease.kind)}
    held = [f"{lease.name} ({lease.owner})" for lease in leases if not is_about_one(lease.kind)]
    return ", ".join(
        [*held, *([f"work on {counted(len(of_one), 'connection')}"] if of_one else [])]
    )


def _incidents(seen: "Glance") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    from linekeeper.text import health_name

    if not seen.incidents:
        return Text("no open incident", "green")
    table = Table(title=_open(seen.open_incidents), title_justify="left")
    for heading in ("since", "kind", "what", "connections", "state"):
        # Two words on two lines, never one word on two.
        table.add_column(heading, overflow="fold", min_width=15 if heading == "kind" else None)
    for incident in seen.incidents:
        remaining = incident.members - len(incident.connections)
        who = ", ".join(incident.connections) + (f" and {remaining} more" if remaining > 0 else "")
        by = f" by {incident.acknowledged_by}" if incident.acknowledged_by else ""
        table.add_row(
            _ago(incident.opened_at, seen.at),
            Text(health_name(incident.kind), _STYLES.get(incident.kind, "red")),
            Text(incident.title),
            Text(who or "-"),
            Text(f"{incident.status}{by}"),
        )
    return table


def _windows(seen: "Glance") -> "list[RenderableType]":
    """Of whom nobody is notified now; nothing where there is nobody."""
    from rich.table import Table
    from rich.text import Text

    if not seen.windows.total:
        return []
    table = Table(title="Maintenance windows and mutes", title_justify="left")
    for heading in ("what", "of", "until", "set by", "reason"):
        table.add_column(heading, overflow="fold")
    for window in seen.windows.shown:
        until = f"{window.until:%Y-%m-%d %H:%M} UTC" if window.until else "it is ended"
        table.add_row(
            *(Text(each) for each in (window.name, window.label, until, window.by, window.reason))
        )
    return [table, *([Text(seen.windows.remaining)] if seen.windows.remaining else [])]


def _open(number: int) -> str:
    return "1 open incident" if number == 1 else f"{number} open incidents"


def _apps(seen: "Glance") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    if not seen.apps:
        return Text(
            "no Makini is configured: fill in a MakiniApp block, set LINEKEEPER_MAKINI_…, "
            "or try linekeeper up --sandbox",
            "yellow",
        )
    table = Table(title="Makini apps", title_justify="left")
    for heading in ("app", "mode", "connections", "listed", "last check"):
        table.add_column(heading)
    for name, app_glance in seen.apps.items():
        table.add_row(
            Text(name),
            app_glance.mode or "not configured",
            str(app_glance.connections),
            _ago(app_glance.last_list_at, seen.at),
            _ago(app_glance.last_check_at, seen.at),
        )
    return table


def _spent(seen: "Glance") -> "list[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Calls to Makini", title_justify="left")
    for heading in ("app", "for", "this hour", "in 24 h", "answered 429"):
        table.add_column(heading)
    for name, app in seen.apps.items():
        for part in app.spent:
            figures = (str(part.this_hour), str(part.day), str(part.refused))
            table.add_row(name, part.purpose, *figures)
    said = [Text(f"{name}: {app.stated}") for name, app in seen.apps.items() if app.stated]
    return [table, *said] if table.row_count else [*said]


def _outbox(seen: "Glance") -> "list[RenderableType]":
    from rich.text import Text

    parts: list[RenderableType] = []
    for channel, waiting in seen.outbox.items():
        since = (
            f", the oldest {_ago(waiting.oldest_pending_at, seen.at)}" if waiting.pending else ""
        )
        later = f", {waiting.planned} planned for later" if waiting.planned else ""
        why = f": {waiting.last_error}" if waiting.last_error else ""
        parts.append(
            Text(
                f"outbox {channel}: {waiting.pending} pending{since}{later}, "
                f"{waiting.dead} given up{why}",
                "red" if waiting.dead else "",
            )
        )
    if not seen.slack_configured:
        parts.append(Text("Slack is not configured: nobody is notified", "yellow"))
        parts += [Text(f"would have been sent: {text}", "dim") for text in seen.unsent]
    return parts


def _ago(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "never"
    seconds = max((now - at).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
