"""An implementation as the graph of its run: one node a gate, the plan's needs as edges. Pure.

Every node has its true times: since when a gate was open, when it was done, when it is likely to
begin and to end.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from linekeeper.graph import Node
from linekeeper.implementation.evaluate import SETTLED
from linekeeper.implementation.plan import PlannedGate
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.standing import TURNS, WHOSE, turn_of
from linekeeper.people import person
from linekeeper.store.tables import Gate

FormOf = Callable[[str], str | None]
"""The address of a gate's form, by the id of the run that asks."""
RESTORED = "This was before the run began: it is restored from Linekeeper's records."


def nodes(progress: Progress, *, began: datetime, form: FormOf, now: datetime) -> list[Node]:
    """The nodes of an implementation whose run began at `began`, in the plan's order.

    What was settled before that was shown by an earlier run that was lost, and says so.
    """
    graph_nodes = []
    for gate in progress.standing.plan.gates:
        node = _node(progress, gate, form=form, now=now)
        if node.state == "COMPLETED" and node.end is not None and node.end < began:
            node = replace(node, message=f"{node.message} {RESTORED}")
        graph_nodes.append(node)
    return graph_nodes


def waits_for(progress: Progress) -> list[str]:
    """Whose turn it is at the gates that are open: `us`, `customer`, `makini`, each once.

    Nobody's while it is on hold.
    """
    if progress.standing.held:
        return []
    rows = progress.standing.gates
    open_gates = progress.evaluation.having("open", "blocked")
    return sorted({turn_of(rows[gate]) for gate in open_gates})


def _node(progress: Progress, gate: PlannedGate, *, form: FormOf, now: datetime) -> Node:
    row = progress.standing.gates[gate.id]
    opened = row.opened_at
    node = Node(gate.id, row.title, gate.needs, "RUNNING", "", "", opened or now, None)
    match row.status:
        case "done":
            by = f" by {row.done_by}" if row.done_by and row.check_name is None else ""
            evidence = _sentence(row.evidence or "no evidence was kept")
            message = f"Done on {_day(row.done_at)}{by}: {evidence}"
            message += _run(row, form)
            done_at = row.done_at or now
            return replace(
                node,
                state="COMPLETED",
                name="Completed",
                message=message,
                start=min(opened or done_at, done_at),
                end=done_at,
            )
        case "skipped":
            return _skipped(node, row, now)
        case "open" | "blocked":
            return _open(progress, node, row, form)
    return _not_yet(progress, node, gate, row, now)


def _skipped(node: Node, row: Gate, now: datetime) -> Node:
    """A gate that was skipped before it opened stands where those it needed were settled."""
    at = row.skipped_at or now
    by = f" by {row.done_by}" if row.done_by else ""
    return replace(
        node,
        state="COMPLETED",
        name="Skipped",
        message=f"Skipped{by}: {_sentence(row.skipped_because or 'no reason was kept')}",
        start=min(row.opened_at or at, at),
        end=at,
    )


def _open(progress: Progress, node: Node, row: Gate, form: FormOf) -> Node:
    turn = turn_of(row)
    if progress.standing.implementation.status == "abandoned":
        return _abandoned(progress, node)
    late = {"soon": " Late soon.", "overdue": " Overdue."}.get(
        progress.evaluation.late.get(row.gate, ""), ""
    )
    since = f"since {_day(row.opened_at)}"
    if row.status == "blocked":
        because = f"{row.blocks[-1]['because']}" if row.blocks else "no reason was kept"
        return replace(
            node,
            state="PAUSED",
            name="Blocked",
            message=f"Blocked, {TURNS.get(turn, turn)}: {_sentence(because)} Open {since}.{late}"
            f"{_form(row, form)}",
        )
    lack = progress.lacks.get(row.gate)
    said = lack.text if lack else row.note
    who = WHOSE.get(turn, turn)
    owner = f" Owner: {person(row.assignee).shown}." if row.check_name is None else ""
    if held := _held(progress):
        return replace(
            node, name="On hold", message=f"Open {since}.{owner}{held}{_form(row, form)}"
        )
    return replace(
        node,
        name=f"Waiting for {who}",
        message=f"Waiting for {who} {since}.{owner}{f' {said}' if said else ''}{late}"
        f"{_form(row, form)}",
    )


def _not_yet(progress: Progress, node: Node, gate: PlannedGate, row: Gate, now: datetime) -> Node:
    if progress.standing.implementation.status == "abandoned":
        return _abandoned(progress, node)
    start, end = _likely(progress, gate.id, now)
    first, last = _day(start), _day(end)
    likely = f"on {first}" if first == last else f"from {first} to {last}"
    rows = progress.standing.gates
    needed = [rows[need].title for need in gate.needs if rows[need].status not in SETTLED]
    needs = f" Needs {', '.join(needed)}." if needed else ""
    earliest = f" Not before {row.earliest}." if row.earliest else ""
    held = _held(progress)
    return replace(
        node,
        state="SCHEDULED",
        name="Not yet",
        message=f"Not yet.{held} Likely {likely}.{needs}{earliest}",
        start=start,
        end=end,
    )


def _held(progress: Progress) -> str:
    if not progress.standing.held:
        return ""
    because = progress.standing.implementation.held_because or "no reason was kept"
    return f" The implementation is on hold: {_sentence(because)}"


def _abandoned(progress: Progress, node: Node) -> Node:
    implementation = progress.standing.implementation
    at = implementation.abandoned_at or node.start
    return replace(
        node,
        state="CANCELLED",
        name="Abandoned",
        message=f"The implementation was abandoned: {implementation.held_because}.",
        start=min(node.start, at),
        end=at,
    )


def _likely(progress: Progress, gate: str, now: datetime) -> tuple[datetime, datetime]:
    """When a gate is likely to begin and to end; never before now, and never at one moment."""
    outlook = progress.outlook
    seen = outlook.forecast.gates[gate]
    calendar, first = outlook.calendar, outlook.start

    def moment(days: float, *, ending: bool) -> datetime:
        ordinal_day = calendar.ordinal(first, days, ending=ending)
        day = datetime.fromordinal(int(ordinal_day)).replace(tzinfo=calendar.zone)
        return (day + timedelta(days=ordinal_day - int(ordinal_day))).astimezone(UTC)

    start = max(moment(seen.start_p50, ending=False), now)
    return start, max(moment(seen.finish_p50, ending=True), start + timedelta(hours=1))


def _form(row: Gate, form: FormOf) -> str:
    """Where a person acts, and the run that does the work."""
    asks = form(row.run_id) if row.run_id and row.check_name is None else None
    return (f" Its form: {asks}" if asks else "") + _run(row, form)


def _run(row: Gate, form: FormOf) -> str:
    url = form(row.work_run_id) if row.work_run_id else None
    return f" Its run: {url}" if url else ""


def _sentence(text: str) -> str:
    """What somebody wrote, with the full stop that it may have already. Pure."""
    return f"{text.rstrip().removesuffix('.')}."


def _day(at: datetime | None) -> str:
    return f"{at:%-d %B %Y}" if at else "an unknown day"
