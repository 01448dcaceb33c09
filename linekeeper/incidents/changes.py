"""What happened to an incident, as the capability that decided it says so."""

from dataclasses import dataclass
from typing import Literal

What = Literal["opened", "reopened", "changed", "acknowledged", "resolved", "merged"]


@dataclass(frozen=True, slots=True)
class IncidentChange:
    """One change people are told about. `text` is its line in the diary; empty: no line."""

    incident_id: str
    what: What
    text: str = ""
