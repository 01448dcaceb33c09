"""What the artifacts `fleet` and `connection-<slug>` have in common: keys, and cells. Pure."""

from linekeeper.markdown import MAX_MESSAGE, code, text
from linekeeper.store.tables import Incident

AUDIT = "audit"
"""The key of the page of who did what."""


def artifact_key(slug: str) -> str:
    """The key of a connection's artifact."""
    return f"connection-{slug}"


def answer(status: str | None, message: str | None, request_id: str | None) -> str:
    """What Makini answered, with what its support asks for."""
    return joined(
        code(status) if status else "",
        text(message, MAX_MESSAGE).removesuffix(".") if message else "",
        f"request {code(request_id)}" if request_id else "",
    )


def joined(*parts: str) -> str:
    """The parts there are, on one line."""
    return " · ".join(part for part in parts if part) or "—"


def taken(incident: Incident) -> str:
    """Who has the incident."""
    if incident.acknowledged_at is None:
        return "not acknowledged"
    return f"acknowledged by {text(incident.acknowledged_by)}"
