"""The artifact `replay-webhooks`: what is done again, or would be. Pure."""

from linekeeper.inbox.replay import ReplayPlan
from linekeeper.markdown import code, text
from linekeeper.outbox.given_up import GivenUpForwards


def forwards_markdown(planned: GivenUpForwards) -> str:
    """The page of what the product did not take."""
    head = "| Written | Why | Event or change |\n|---|---|---|"
    rows = [
        f"| {forward.written_at:%Y-%m-%d %H:%M} | {text(forward.error, 160)} "
        f"| {code(forward.about)} |"
        for forward in planned.forwards
    ]
    rows += _more(planned.count - len(rows), columns=3)
    title = f"# {planned.count:,} messages for the product were given up"
    return "\n\n".join([title, head]) + "\n" + "\n".join(rows) + "\n"


def replay_markdown(planned: ReplayPlan, status: str) -> str:
    """The page of the webhooks that ended as `status`."""
    kinds = ", ".join(f"{count:,} {text(kind)}" for kind, count in sorted(planned.by_kind.items()))
    lines = [
        f"# {planned.replayed:,} of {planned.events:,} {status} webhooks",
        kinds or "There are none.",
        "| Received | Connection | Event | Why | Id |\n|---|---|---|---|---|",
    ]
    rows = [
        f"| {line.received_at:%Y-%m-%d %H:%M} | {text(line.connection)} | {text(line.event)} "
        f"| {text(line.error, 160)} | {code(line.id)} |"
        for line in planned.lines
    ]
    rows += _more(planned.replayed - len(rows), columns=5)
    return "\n\n".join(lines) + "\n" + "\n".join(rows) + "\n"


def _more(remaining: int, *, columns: int) -> list[str]:
    return [f"| and {remaining:,} more {'| ' * (columns - 1)}|"] if remaining > 0 else []
