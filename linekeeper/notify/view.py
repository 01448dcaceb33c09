"""What a message about an incident needs to know, as plain data."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from linekeeper.access.kept import KeptLogin

MEMBERS_SHOWN = 20
CONNECTIONS = "connections"
"""The key of the page of every connection."""
FORMS = ("acknowledge", "check-connection", "explain", "reconnect")
"""The deployments whose forms a message of an incident leads to."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """One connection of an incident, with the last trouble seen on it."""

    connection_id: str
    name: str
    slug: str
    makini_key: str
    provider: str
    health: str
    kind: str
    """What it has in this incident; `health` is what it has now."""
    joined_at: datetime
    left_at: datetime | None = None
    customer_id: str | None = None
    customer: str | None = None
    owner: str | None = None
    critical: bool = False
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    login_kept: KeptLogin | None = None
    """Somebody has logged in, and it could not be verified yet."""

    @property
    def label(self) -> str:
        """`Customer · System`, or the connection's name if that says it already."""
        if not self.customer or self.name.casefold().startswith(self.customer.casefold()):
            return self.name
        return f"{self.customer} · {self.name}"


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident as it is at one moment. `members` holds the first `MEMBERS_SHOWN`."""

    id: str
    kind: str
    scope: str
    app: str
    provider: str
    title: str
    status: str
    revision: int
    opened_at: datetime
    reopened_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    merged_into: str | None = None
    """Title of the wider incident it became part of."""
    members: tuple[MemberView, ...] = ()
    member_count: int = 0
    recovered_count: int = 0
    run_id: str | None = None
    """The run that works on it."""
    connect_url: str | None = None
    snoozed_until: datetime | None = None
    code: str | None = None
    """Makini's error code, where the incident is about a whole app."""
    message: str | None = None
    request_id: str | None = None
    summary: str = ""
    """What a finder says of it at present."""

    @property
    def since(self) -> datetime:
        """When the present trouble began."""
        return self.reopened_at or self.opened_at


@dataclass(frozen=True, slots=True)
class Links:
    """Where the Prefect UI is and which deployments have a form there; empty: no links."""

    ui_url: str | None = None
    deployments: Mapping[str, str] = field(default_factory=dict)
    """Deployment name → id."""
    run_id: str | None = None
    """The run that tells of it, if a run does."""
    buttons: bool = False
    """Whether Slack's buttons reach us: that takes a signing secret or Socket Mode."""
    artifact_ids: Mapping[str, str] = field(default_factory=dict)
    """By key: Prefect's page of a key only lists the versions."""

    @property
    def has_all_forms(self) -> bool:
        """Whether every form is known that a message leads to."""
        return all(name in self.deployments for name in FORMS)

    @property
    def forms_stamp(self) -> str:
        """What tells a message with these forms from one with others, or with none."""
        forms = "\n".join(self.deployments.get(name, "") for name in FORMS)
        return hashlib.sha256(forms.encode()).hexdigest()[:16]

    def run(self, run_id: str | None = None) -> str | None:
        """A flow run's page."""
        return self._page(
            f"runs/flow-run/{quote(found, errors='replace')}"
            if (found := run_id or self.run_id)
            else ""
        )

    def artifact(self, key: str) -> str | None:
        """An artifact's page; where its id isn't known, that of its key."""
        if identifier := self.artifact_ids.get(key):
            return self._page(f"artifacts/artifact/{quote(identifier)}")
        return self._page(f"artifacts/key/{quote(key)}")

    def form(self, deployment: str, parameters: Mapping[str, Any]) -> str | None:
        """A deployment's form with `parameters` filled in; None where it isn't deployed."""
        identifier = self.deployments.get(deployment)
        if identifier is None:
            return None
        filled = quote(json.dumps(dict(parameters), separators=(",", ":")), safe="")
        return self._page(f"deployments/deployment/{quote(identifier)}/run?parameters={filled}")

    def _page(self, path: str) -> str | None:
        return f"{self.ui_url.rstrip('/')}/{path}" if self.ui_url and path else None
