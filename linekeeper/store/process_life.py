"""Whether a process of this machine has ended beyond doubt, by what its kernel says.

Only of one in the same namespace of process ids, since the same start of the machine. Of all others
nothing can be said: a name of a host may be that of several, and a container's ids are its own.
"""

import os
from pathlib import Path

_PROC = Path("/proc")
_ENDED = ("Z", "X")
"""States of a process that does nothing any more, and waits for its parent to take note."""


def life_of_this() -> str | None:
    """What tells this process from all others of its id; None where the kernel says nothing."""
    scope, begun = _scope(), _state_of(os.getpid())
    return None if scope is None or begun is None else f"{scope} {begun[1]}"


def has_ended(process_id: int | None, life: str | None) -> bool:
    """Whether the process with this id and `life` has ended for certain."""
    scope, _, begun = (life or "").rpartition(" ")
    if process_id is None or process_id <= 0 or not scope or scope != _scope():
        return False
    try:
        os.kill(process_id, 0)  # it asks only; `/proc` may hide what belongs to others
    except ProcessLookupError:
        return True
    except OSError:
        return False
    state = _state_of(process_id)
    return state is not None and (state[0] in _ENDED or state[1] != begun)


def _scope() -> str | None:
    """The start of this machine, and this process's namespace of ids."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _state_of(process_id: int) -> tuple[str, str] | None:
    """The state of a process, and when it began, in ticks since the machine did."""
    try:
        said = (_PROC / str(process_id) / "stat").read_text()
    except OSError:
        return None
    fields = said.rpartition(")")[2].split()  # its name may have blanks and brackets
    return (fields[0], fields[19]) if len(fields) > 19 else None
