"""An incident as a message about it needs to know it, read for many of them in few statements."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.links import links_given
from linekeeper.access.pending import KeptLogin, kept_logins
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.incidents import kinds
from linekeeper.incidents.announce import RANKED
from linekeeper.incidents.cause_of import CAUSE
from linekeeper.notify.merged import FLEET, IS_UNWATCHED, LEFT_FOR, Wider, merged_into
from linekeeper.notify.root_cause import CustomerShare, common_causes, customer_shares
from linekeeper.outbox.events import IncidentFacts
from linekeeper.store.engine import Store, chunked
from linekeeper.store.tables import Connection, Credential, Customer, Incident, Observation
from linekeeper.store.types import from_row, table_of
from linekeeper.text import in_parts

MEMBERS_SHOWN = 20
CONNECTIONS = "connections"
"""The key of the page of every connection."""
WEBHOOKS = "webhooks"
"""The key of the page of the webhook stream."""
FROM_A_PAGE = "../.."  # where the UI is as seen from an artifact's page, whatever its address
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
    left_at: datetime | None = None
    left_for: str | None = None  # as `merged.LEFT_FOR` has it
    customer: str | None = None
    owner: str | None = None
    critical: bool = False
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    cause: str = ""
    """The one cause of its state, where that is known (`incidents.kinds.meaning`)."""
    login_kept: KeptLogin | None = None
    """Somebody has logged in, and it could not be verified yet."""
    is_mailed: bool | None = None
    """Whether its customer is mailed the connect link; None where none works any longer."""
    has_link_ended: bool = False
    """Whether the connect link that was made for this loss expired unused."""
    is_observed: bool | None = None
    """Whether it is in mode observe, in which no connect link is made; None: not known."""

    @property
    def label(self) -> str:
        """`Customer · System`, or the connection's name if that says it already."""
        if not self.customer or self.name.casefold().startswith(self.customer.casefold()):
            return in_parts(self.name)
        return f"{self.customer} · {self.name}"


@dataclass(frozen=True, slots=True)
class IncidentView(IncidentFacts):
    """An incident as it is at one moment. `members` holds the first `MEMBERS_SHOWN`."""

    opened_at: datetime
    reopened_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    is_unwatched: bool = False
    """Whether it ended because its app was taken out of the settings; its trouble may go on."""
    merged_into: Wider | None = None
    """The wider incident it became part of."""
    members: tuple[MemberView, ...] = ()
    member_count: int = 0
    recovered_count: int = 0
    share: CustomerShare | None = None
    """The customer who has the most of its connections, where it is about several."""
    cause: str = ""  # the one why all of several connections are as they are
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
    def says_more(self) -> bool:
        """Whether its title is the first sentence of what there is to say."""
        first, _, more = self.summary.partition(". ")
        return bool(more) and self.title.endswith(first)

    @property
    def since(self) -> datetime:
        """When the present trouble began."""
        return self.reopened_at or self.opened_at

    @property
    def only(self) -> MemberView | None:
        """The one connection it is about, if it is one."""
        return self.members[0] if self.member_count == 1 and self.members else None

    @property
    def why(self) -> str:
        """The one cause of it, where that is known."""
        return self.only.cause if self.only else self.cause


def overview_of(kind: str) -> tuple[str, str]:
    """The name and the key of the page that shows all that incidents of `kind` are about."""
    if kinds.is_about_webhooks(kind):
        return "Webhooks", WEBHOOKS
    return "Connections", CONNECTIONS


def artifacts(view: IncidentView) -> tuple[str, ...]:
    """The keys of the artifacts the message leads to: its history, the fleet, its overview."""
    own = [f"connection-{view.only.slug}"] if view.only else []
    wider = [view.merged_into.page] if view.merged_into else []
    return tuple(dict.fromkeys([*own, *wider, FLEET, overview_of(view.kind)[1]]))


@dataclass(frozen=True, slots=True)
class Links:
    """Where the Prefect UI is and which deployments have a form there; empty: no links."""

    ui_url: str | None = None
    deployments: Mapping[str, str] = field(default_factory=dict)
    """Deployment name → id."""
    run_id: str | None = None
    """The run that reports it, if a run does."""
    buttons: bool = False
    """Whether Slack's buttons reach us: that takes a signing secret or Socket Mode."""
    artifact_ids: Mapping[str, str] = field(default_factory=dict)
    """The newest artifacts' ids, by key: Prefect's page of a key only lists the versions."""

    @property
    def has_all_forms(self) -> bool:
        """Whether every form is known that a message leads to."""
        return all(name in self.deployments for name in FORMS)

    @property
    def forms_stamp(self) -> str:
        """What distinguishes a message with these forms from one with others, or with none."""
        forms = "\n".join(self.deployments.get(name, "") for name in FORMS)
        return hashlib.sha256(forms.encode()).hexdigest()[:16]

    def run(self, run_id: str | None = None) -> str | None:
        """A flow run's page."""
        identifier = quote(run_id or self.run_id or "", errors="replace")
        return self._page(f"runs/flow-run/{identifier}" if identifier else "")

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


_AT_ONCE = 5_000  # ids in one statement
_LOST = "reauthorization_required"
_OF_LOGIN = ("login_lost", "doubted")  # outcomes that speak of the login
_ENDS_SOON = timedelta(hours=1)  # at the deadline a link has seconds left
_EVIDENCE_BEFORE = timedelta(hours=1)
"""Trouble seen this long before a connection joined belongs to the incident: misses add up."""
_SHOWN = (
    select(
        RANKED,
        LEFT_FOR.label("left_for"),
        col(Connection.name),
        col(Connection.slug),
        col(Connection.makini_key),
        col(Connection.provider),
        col(Connection.health),
        col(Connection.app),
        col(Connection.mode),
        CAUSE.label("cause"),
        col(Connection.customer_id),
        col(Customer.name).label("customer"),
        col(Customer.owner),
        col(Customer.critical),
    )
    .join(Connection, col(Connection.id) == RANKED.c.connection_id)
    .outerjoin(Credential, col(Credential.connection_id) == RANKED.c.connection_id)
    .join(Customer, col(Customer.id) == col(Connection.customer_id), isouter=True)
    .where(RANKED.c.rank <= MEMBERS_SHOWN)
    .order_by(RANKED.c.incident_id, RANKED.c.rank)
)
_INCIDENT = table_of(Incident)
_INCIDENTS = select(_INCIDENT, IS_UNWATCHED.label("is_unwatched")).where(
    _INCIDENT.c.id.in_(bindparam("ids", expanding=True))
)
_TROUBLES = (
    select(
        col(Observation.id),
        func.row_number()
        .over(
            partition_by=[col(Observation.connection_id), col(Observation.outcome).in_(_OF_LOGIN)],
            order_by=[col(Observation.at).desc(), col(Observation.id).desc()],
        )
        .label("age"),
    )
    .where(
        col(Observation.connection_id).in_(bindparam("ids", expanding=True)),
        col(Observation.outcome) != "answered",
        or_(col(Observation.code).is_not(None), col(Observation.message).is_not(None)),
    )
    .subquery()
)
_LAST_TROUBLE = (
    select(
        col(Observation.connection_id),
        col(Observation.outcome),
        col(Observation.at),
        col(Observation.code),
        col(Observation.message),
        col(Observation.request_id),
    )
    .join(_TROUBLES, _TROUBLES.c.id == col(Observation.id))
    .where(_TROUBLES.c.age == 1)
    .order_by(col(Observation.at), col(Observation.id))
)
"""Built once: building them takes longer than running them."""


async def load_views(
    store: Store, incident_ids: Collection[str], apps: Mapping[str, AppConfig] | None = None
) -> dict[str, IncidentView]:
    """The incidents as they are now; an id without one is left out. `apps`: who is observed."""
    views: dict[str, IncidentView] = {}
    async with store.read() as session:
        for batch in chunked(sorted(set(incident_ids)), _AT_ONCE):
            incidents = (await session.execute(_INCIDENTS, {"ids": batch})).all()
            asking = {
                each.id for each in incidents if each.connect_url or each.scope != "connection"
            }
            members, counts = await _members(session, batch, asking, apps or {})
            over = [incident.id for incident in incidents if incident.resolved_at]
            wider = await merged_into(session, over) if over else {}
            several = [each.id for each in incidents if each.scope != "connection"]
            shares = await customer_shares(session, several) if several else {}
            causes = await common_causes(session, several) if several else {}
            for incident in incidents:
                count, left = counts.get(incident.id, (0, 0))
                views[incident.id] = from_row(
                    IncidentView,
                    incident,
                    merged_into=wider.get(incident.id),
                    members=tuple(members.get(incident.id, ())),
                    member_count=count,
                    recovered_count=left,
                    share=shares.get(incident.id),
                    cause=causes.get(incident.id, ""),
                )
    return views


async def _members(
    session: AsyncSession,
    incident_ids: Sequence[str],
    asking: Collection[str],
    apps: Mapping[str, AppConfig],
) -> tuple[dict[str, list[MemberView]], dict[str, tuple[int, int]]]:
    """The members, and how many there are; `asking`: incidents for which there are links."""
    rows = (await session.execute(_SHOWN, {"incident_ids": list(incident_ids)})).all()
    evidence = await _last_trouble(session, sorted({row.connection_id for row in rows}))
    lost = {
        row.connection_id: (row.incident_id, row.customer_id)
        for row in rows
        if row.kind == _LOST and row.left_at is None
    }
    kept = await kept_logins(session, list(lost))
    with_link = {each: whose for each, whose in lost.items() if whose[0] in asking}
    given = await links_given(session, with_link, utcnow() + _ENDS_SOON) if with_link else {}
    members: dict[str, list[MemberView]] = {}
    counts: dict[str, tuple[int, int]] = {}
    for row in rows:
        seen, app = evidence.get((row.connection_id, row.kind == _LOST)), apps.get(row.app)
        if seen is not None and seen.at < row.joined_at - _EVIDENCE_BEFORE:
            seen = None
        counts[row.incident_id] = (row.members, row.members - row.affected)
        members.setdefault(row.incident_id, []).append(
            from_row(
                MemberView,
                row,
                critical=bool(row.critical),
                code=seen.code if seen else None,
                message=seen.message if seen else None,
                request_id=seen.request_id if seen else None,
                login_kept=kept.get(row.connection_id) if row.kind == _LOST else None,
                is_observed=(row.mode or app.mode) == "observe" if app is not None else None,
                has_link_ended=given.get(row.connection_id, True) is None,
                is_mailed=given.get(row.connection_id) if row.connection_id in lost else None,
            )
        )
    return members, counts


async def _last_trouble(
    session: AsyncSession, connection_ids: Sequence[str]
) -> dict[tuple[str, bool], Any]:
    """The newest trouble of each connection, and (True) the newest that speaks of its login.

    Where none does, that is the newest of all.
    """
    troubles: dict[tuple[str, bool], Any] = {}
    for batch in chunked(connection_ids, _AT_ONCE):
        rows = await session.execute(_LAST_TROUBLE, {"ids": batch})
        for row in rows:  # the newest comes last
            troubles[row.connection_id, False] = row
            if row.outcome in _OF_LOGIN:
                troubles[row.connection_id, True] = row
    for connection_id, is_of_login in list(troubles):
        if not is_of_login:
            troubles.setdefault((connection_id, True), troubles[connection_id, False])
    return troubles
