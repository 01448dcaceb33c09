"""What people are notified of an incident by: its first message, its third reminder, its end."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

StepKind = Literal[
    "first", "reminder", "escalation", "joined", "resolved", "never", "reopened", "worse"
]
"""`joined`: further connections, to fallback channels. `never`: nobody will be notified. In the
thread of its message `reopened` is a first one, and `worse` says that it is critical now."""


class Step(NamedTuple):
    """One of them; reminders and those that joined are counted, from 1."""

    kind: StepKind
    number: int = 0


def step_of(name: str, kind: str | None, number: int | None) -> Step:
    """What a notice is, by its columns."""
    if kind is None:
        # Of before migration 0064, which a process of that version may write while this one takes
        # over: only the name says it. This can go once no migration `serves` a schema before it.
        kind, _, counted = name.partition(":")
        number = int(counted or 0)
    return Step(cast("StepKind", kind), number or 0)


def step_in(payload: Mapping[str, Any]) -> Step:
    return step_of(payload["step"], payload.get("step_kind"), payload.get("number"))
