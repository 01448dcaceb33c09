"""When calls are held back. Pure and total; `now` is an aware UTC datetime.

Two circuits (DESIGN "Two axes"): one per connection, which is its health, and one per app, which
counts failures of the connection list and of the admin token only. Status probes pass both.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from linekeeper.makini.errors import ErrorKind, MakiniError
from linekeeper.makini.failures import MAX_RETRY_AFTER

FAILURES, FIRST_WAIT, LONGEST_WAIT = 5, 30.0, 900.0
"""So many in a row open the circuit of an app; so long it waits, in seconds."""
CLOCK_WAS_SET_BACK = timedelta(seconds=2 * MAX_RETRY_AFTER)
"""No wait is that long: a `retry_at` further ahead was written by a clock since set back."""
_NO_DATA_CALLS = frozenset({"unreachable", "reauthorization_required", "inactive"})


def may_call_data(health: str) -> bool:
    """Whether records of a connection in this health may be read; a status probe always may.

    `unreachable` opens again by a probe, `reauthorization_required` by a reconnect or a probe
    that finds it well, `inactive` by credits.
    """
    return health not in _NO_DATA_CALLS


class CircuitState(StrEnum):
    """`closed` lets calls pass, `open` holds them, `half_open` has one probe on its way."""

    closed = "closed"
    open = "open"
    half_open = "half_open"


@dataclass(frozen=True, slots=True)
class AppCircuit:
    """The circuit of one app. `failures` are in a row; `opened_at` is when trouble began.

    `cause` is how the last of them failed, for people.
    """

    state: CircuitState = CircuitState.closed
    failures: int = 0
    opened_at: datetime | None = None
    retry_at: datetime | None = None
    cause: str = ""


def may_call(circuit: AppCircuit, now: datetime) -> bool:
    """Whether a list or token call may be made now.

    Open: once `retry_at` is reached; whoever then calls first records it with `begin_probe`.
    Half open: not before the probe has answered, or was due to.
    """
    if circuit.state is CircuitState.closed or circuit.retry_at is None:
        return True
    return now >= circuit.retry_at or circuit.retry_at - now > CLOCK_WAS_SET_BACK


def begin_probe(circuit: AppCircuit, now: datetime) -> AppCircuit:
    """Return the circuit with its one probe under way, for a call that `may_call` let through.

    A probe that never answers counts as lost after `FIRST_WAIT`: the next one may go.
    """
    if circuit.state is CircuitState.closed:
        return circuit
    retry_at = now + timedelta(seconds=FIRST_WAIT)
    return replace(circuit, state=CircuitState.half_open, retry_at=retry_at)


def after_failure(circuit: AppCircuit, error: MakiniError, now: datetime) -> AppCircuit:
    """Return the circuit after a list or token call that failed with `error`.

    Opens at `FAILURES` in a row, waiting `FIRST_WAIT`, doubled by each further failure up to
    `LONGEST_WAIT`, and no shorter than Makini's Retry-After. A call the circuit itself held back
    is no failure, and one that was under way when it opened adds nothing.
    """
    late = circuit.state is CircuitState.open and not may_call(circuit, now)
    if late or error.kind is ErrorKind.circuit_open:
        return circuit
    failures, since = circuit.failures + 1, circuit.opened_at or now
    if failures < FAILURES and circuit.state is CircuitState.closed:
        return AppCircuit(CircuitState.closed, failures, since, cause=error.brief)
    doublings = min(max(failures - FAILURES, 0), 32)
    wait = min(FIRST_WAIT * 2.0**doublings, LONGEST_WAIT)
    wait = max(wait, error.retry_after or 0.0)
    retry_at = now + timedelta(seconds=wait)
    return AppCircuit(CircuitState.open, failures, since, retry_at, error.brief)


def why_held(circuit: AppCircuit) -> str:
    """Since when calls fail, and how: for people."""
    since = f" since {circuit.opened_at:%Y-%m-%d %H:%M} UTC" if circuit.opened_at else ""
    how = f", the last with “{circuit.cause}”" if circuit.cause else ""
    return f"{circuit.failures} failures in a row{since}{how}"
