"""What a preflight is asked to do, checked before anything is tried."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from linekeeper.preflight.targets import Target, TargetError, parse_target
from linekeeper.preflight.verdict import VANTAGES, Vantage
from linekeeper.refusal import FieldError

TIMEOUT_SECONDS = 5.0
MAX_TIMEOUT_SECONDS = 120.0
MAX_TARGETS = 200
DEFAULT_CONTROL = "api.makini.io:443"
"""What the internet reaches: from outside it must answer before a closed port means anything."""


class OrderError(FieldError):
    """Refused."""


@dataclass(frozen=True, slots=True)
class PreflightOrder:
    """`timeout` is in seconds and for each check; `ca_file` is PEM, trusted besides the usual."""

    targets: tuple[Target, ...]
    vantage: Vantage
    timeout: float = TIMEOUT_SECONDS
    ca_file: str | None = None
    control: Target | None = None
    """A place that is open, to verify from outside that this machine reaches the internet."""


def take_order(
    targets: Sequence[str],
    vantage: str,
    timeout: float = TIMEOUT_SECONDS,
    ca_file: str | None = None,
    control: str = DEFAULT_CONTROL,
) -> PreflightOrder:
    """The order, each target once; `OrderError` for the first field that can't be done."""
    try:
        known_open = parse_target(control)
    except TargetError as error:
        raise OrderError("control", str(error)) from None
    parsed = _parse_all(targets)
    if not 1 <= len(parsed) <= MAX_TARGETS:
        raise OrderError("target", f"give 1 to {MAX_TARGETS}, not {len(parsed)}")
    known = next((candidate for candidate in VANTAGES if candidate == vantage), None)
    if known is None:
        raise OrderError("vantage", f"{vantage[:40]!r} is not one of {', '.join(VANTAGES)}")
    if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
        raise OrderError("timeout", f"{timeout:g} is outside 0 to {MAX_TIMEOUT_SECONDS:g} seconds")
    if ca_file is not None:
        try:
            ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            reason = error.strerror if error.errno and not isinstance(error, ssl.SSLError) else None
            raise OrderError("ca-file", f"{ca_file}: {reason or 'holds no certificate'}") from None
    return PreflightOrder(parsed, known, timeout, ca_file, known_open)


def _parse_all(targets: Sequence[str]) -> tuple[Target, ...]:
    """Each once. `OrderError` names all that are none."""
    parsed: dict[Target, None] = {}
    faults: dict[str, None] = {}
    for text in targets:
        try:
            parsed[parse_target(text)] = None
        except TargetError as error:
            faults[str(error)] = None
    if faults:
        raise OrderError("target", "; ".join(faults))
    return tuple(parsed)
