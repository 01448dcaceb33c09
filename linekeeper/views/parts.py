"""What the artifacts `fleet` and `connection-<slug>` have in common: links, and cells. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from linekeeper.markdown import MAX_MESSAGE, code, text
from linekeeper.views.fleet_models import OpenIncident

AUDIT = "audit"
"""The key of the page of who did what."""


@dataclass(frozen=True, slots=True)
class ReportLinks:
    """Where the artifacts' links lead.

    Without `ui_url` (such as `http://127.0.0.1:4200`) they are relative to an artifact's page:
    right under whatever address, and in whichever of Prefect's two UIs, it is read.
    """

    ui_url: str | None = None
    check_deployment_id: str | None = None
    """The deployment `check-connection`; without it there is no link to its form."""
    explain_deployment_id: str | None = None
    """The deployment `explain`; likewise."""
    artifact_ids: Mapping[str, str] = field(default_factory=dict)
    """The newest artifact's id by key: Prefect's page of a key only lists the versions."""

    def artifact(self, key: str) -> str:
        """The artifact `key`, or where its versions are listed if its id isn't known."""
        if identifier := self.artifact_ids.get(key):
            return f"{self._base}/artifacts/artifact/{quote(identifier, safe='')}"
        return f"{self._base}/artifacts/key/{quote(key, safe='')}"

    def check(self, connection_id: str) -> str | None:
        """The form of `check-connection`, filled in with the connection."""
        return self._form(self.check_deployment_id, {"connection": connection_id})

    def explain(self, incident_id: str) -> str | None:
        """The form of `explain`, filled in with the incident."""
        return self._form(self.explain_deployment_id, {"subject": incident_id})

    def _form(self, deployment_id: str | None, values: Mapping[str, str]) -> str | None:
        if deployment_id is None:
            return None
        parameters = json.dumps(dict(values), separators=(",", ":"))
        form = f"{self._base}/deployments/deployment/{quote(deployment_id, safe='')}/run"
        return f"{form}?parameters={quote(parameters, safe='')}"

    @property
    def _base(self) -> str:
        return self.ui_url.rstrip("/") if self.ui_url else "../.."


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


def taken(incident: OpenIncident) -> str:
    """Who has the incident."""
    if incident.acknowledged_at is None:
        return "not acknowledged"
    return f"acknowledged by {text(incident.acknowledged_by)}"
