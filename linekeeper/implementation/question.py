"""What the forms of the runs of an implementation say. Pure."""

from linekeeper.implementation.answer import GateQuestion
from linekeeper.implementation.news import implementation_key, run_name
from linekeeper.markdown import literal, not_taken
from linekeeper.people import person
from linekeeper.store.tables import Implementation


def gate_question_markdown(asked: GateQuestion, *, graph: str | None, works: str | None) -> str:
    """What the form of a gate's run says.

    `graph` is the address of the implementation's run, `works` of the one that does the step.
    """
    implementation, row = asked.standing.implementation, asked.row
    lines = [f"{not_taken(literal(row.refusal))}**{literal(run_name(asked.standing, row))}**"]
    if row.status == "blocked":
        lines.append(f"Blocked: {literal(row.blocks[-1]['because'])}.")
    for trouble in asked.troubles:
        lines.append(f"**In trouble:** {literal(trouble.words)}. {literal(trouble.sentence)}")
    opened = f"Open since {row.opened_at:%Y-%m-%d}. " if row.opened_at else ""
    due = f"Due {row.due}. " if row.due else ""
    lines.append(
        f"{opened}{due}For {literal(person(row.assignee).shown)}. "
        f"Forecast go-live: {implementation.p50} (P50)"
        + (f", committed {implementation.committed}." if implementation.committed else ".")
    )
    if works:
        lines.append(
            f"[Its run]({works}) does this step and settles it; say *done* here only if it is done "
            "in another way."
        )
    lines.append(f"The whole implementation: {_where(implementation, graph)}.")
    return "\n\n".join(lines)


def step_of_markdown(implementation: Implementation, graph: str | None) -> str:
    """Of which implementation a run does a step."""
    return f"\n\nA step of **{literal(implementation.title)}**: {_where(implementation, graph)}."


def _where(implementation: Implementation, graph: str | None) -> str:
    shown = f"[its graph]({graph}) and " if graph else ""
    return f"{shown}artifact `{implementation_key(implementation.slug)}`"
