"""What a change of rules would do, counted before anything is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, col

from linekeeper.access.expiry import WITHIN
from linekeeper.access.links import asked_customers, attempts_of, links_of_lost_logins
from linekeeper.answers import Answer, UtcTime
from linekeeper.config import AppConfig
from linekeeper.customers.distinct_labels import labels_of
from linekeeper.incidents.suppressed import implemented
from linekeeper.runtime import Runtime
from linekeeper.store.engine import chunked
from linekeeper.store.modes import Rule, app_of, decide, load_subjects
from linekeeper.store.tables import (
    Connection,
    Contact,
    Credential,
    Incident,
    IncidentConnection,
    Reconnect,
)
from linekeeper.tokens.stored import MINT_MARGIN

LOST = "reauthorization_required"
_AT_ONCE = 2_000


@dataclass(slots=True)
class ModePreview:
    """What a change comes to. Names are `Customer · System`."""

    named: int = 0
    """Connections that the rules are about."""
    to_manage: list[str] = field(default_factory=list)
    to_observe: list[str] = field(default_factory=list)
    overruled: list[str] = field(default_factory=list)
    """Named, but a more specific rule says otherwise."""
    renewed: list[str] = field(default_factory=list)
    """Whose login ends within a week: renewed by the next `refresh-tokens`."""
    minted: list[str] = field(default_factory=list)
    """Those without a token that works: the next sweep mints one."""
    links: list[str] = field(default_factory=list)
    """Whose login is lost: a connect link is made at once."""
    people: list[str] = field(default_factory=list)
    """Addresses that are written to at once."""
    heard: list[str] = field(default_factory=list)
    """Whose customers are written to from now on, when a login is lost or ends."""
    without_contact: list[str] = field(default_factory=list)
    """Those among them whose customer has no confirmed contact, so that nobody is."""
    silenced: list[str] = field(default_factory=list)
    """Whose customers are no longer written to."""
    left: list[str] = field(default_factory=list)
    """Whose tokens Linekeeper renews, and would renew no more."""
    first_end: datetime | None = None
    """When the first of those ends."""
    cases: list[str] = field(default_factory=list)
    """Open incidents of lost logins that are looked at anew."""

    @property
    def why_not(self) -> str:
        """Why it isn't done without more ado."""
        ends = f", the first on {self.first_end:%Y-%m-%d %H:%M} UTC" if self.first_end else ""
        return (
            f"Linekeeper renews the tokens of {_names(self.left)}, and nobody would any more: "
            f"they end{ends}. Give them back first (linekeeper tokens export), or say that they "
            "may end (--stop-renewing)."
        )

    def lines(self, *, done: bool) -> list[str]:
        """Return it in sentences; `done`: it was done."""
        would = "" if done else "would "
        counted = [
            (self.to_manage, f"{would}go from observe to manage"),
            (self.to_observe, f"{would}go from manage to observe"),
            (self.overruled, "have a more specific rule that says otherwise"),
            (self.renewed, f"{'will' if done else 'would'} have their tokens renewed within a day"),
            (
                self.minted,
                f"{'will' if done else 'would'} get a token minted by the next sweep, which may "
                "end the product's own",
            ),
            (self.links, f"lost their login: a connect link {'is' if done else 'would be'} made"),
            (self.heard, f"{would}have customers who are notified from then on"),
            (self.without_contact, "of these have no confirmed contact, so nobody is notified yet"),
            (self.silenced, f"{would}have customers who are no longer notified"),
            (self.left, f"{would}have tokens that nobody renews"),
        ]
        named = "1 connection is" if self.named == 1 else f"{self.named} connections are"
        lines = [f"{named} named."]
        lines += [f"{len(labels)} {what}: {_names(labels)}." for labels, what in counted if labels]
        write = "are notified" if done else "would be notified"
        people = "1 person" if len(self.people) == 1 else f"{len(self.people)} people"
        write = write.replace("are", "is") if len(self.people) == 1 else write
        lines.append(f"{people} {write} at once, of a login that is lost already.")
        return lines

    def answer(self) -> "ModePreviewAnswer":
        """Return for programs, by what happens, the names it happens to; people are counted."""
        values = {name: getattr(self, name) for name in ModePreviewAnswer.model_fields}
        return ModePreviewAnswer(**values | {"people": len(self.people)})


class ModePreviewAnswer(Answer):
    """What a change comes to."""

    named: int
    to_manage: list[str]
    to_observe: list[str]
    overruled: list[str]
    renewed: list[str]
    minted: list[str]
    links: list[str]
    people: int = Field(description="How many people are notified")
    heard: list[str] = Field(description="Whose customers are notified from then on")
    without_contact: list[str] = Field(
        description="Those among `heard` whose customer has no confirmed contact"
    )
    silenced: list[str]
    left: list[str]
    first_end: UtcTime | None


def _names(names: Sequence[str]) -> str:
    and_more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + and_more


@dataclass(frozen=True, slots=True)
class ModeTurn:
    """A connection before and after; both are its app as it holds for it."""

    connection: Connection
    label: str
    before: AppConfig
    after: AppConfig


def is_renewed(connection: Connection, credential: Credential | None, now: datetime) -> bool:
    """Whether `refresh-tokens` renews its login once it is managed. Pure.

    One that was disconnected isn't asked about.
    """
    if credential is None or credential.minted or credential.expires_at is None:
        return False
    return (
        connection.custody == "owned"
        and connection.health != LOST
        and credential.expires_at <= now + WITHIN
    )


def is_minted(connection: Connection, credential: Credential | None, now: datetime) -> bool:
    """Whether the next sweep mints a token once it is managed. Pure."""
    if connection.custody != "owned":
        return False
    if credential is None:
        return connection.setup != "pending"
    if not credential.minted or credential.refresh_token or credential.expires_at is None:
        return False
    return credential.expires_at - now < MINT_MARGIN


async def preview(
    rt: Runtime,
    session: AsyncSession,
    before: Sequence[Rule],
    after: Sequence[Rule],
    subjects: Sequence[Rule],
    *,
    now: datetime,
) -> ModePreview:
    """What it would come to if the rules were `after` rather than `before`."""
    configuration = await rt.configuration()
    seen = ModePreview()
    turned: dict[str, tuple[AppConfig, AppConfig]] = {}
    overruled: list[str] = []
    wanted = {(rule.scope, rule.subject): rule for rule in after}
    is_gone = col(Connection.setup) == "disconnected"
    gone = set(await session.scalars(select(col(Connection.id)).where(is_gone)))
    for identifier, (subject, _) in (await load_subjects(session)).items():
        app = configuration.apps.get(subject.app)
        if app is None or identifier in gone:
            continue
        is_named = [rule for rule in subjects if subject.names(rule)]
        old, new = app_of(app, decide(before, subject)), app_of(app, decide(after, subject))
        seen.named += bool(is_named)
        if old is not new and (old.mode, old.notify_customers) != (new.mode, new.notify_customers):
            turned[identifier] = (old, new)
        elif any(
            (rule := wanted.get((each.scope, each.subject))) and rule.mode not in (None, new.mode)
            for each in is_named
        ):
            overruled.append(identifier)
    turns = await _turns(session, turned)
    seen.overruled = sorted((await labels_of(session, overruled)).values())
    await _count_tokens(session, seen, turns, now)
    await _count_people(session, seen, turns, now, has_mail=configuration.mail is not None)
    return seen


async def _turns(
    session: AsyncSession, turned: Mapping[str, tuple[AppConfig, AppConfig]]
) -> list[ModeTurn]:
    ids = sorted(turned)
    labels = await labels_of(session, ids)
    turns: list[ModeTurn] = []
    for batch in chunked(ids, _AT_ONCE):
        rows = await session.scalars(select(Connection).where(col(Connection.id).in_(batch)))
        turns += [ModeTurn(row, labels[row.id], *turned[row.id]) for row in rows]
    return sorted(turns, key=lambda turn: turn.label)


async def _count_tokens(
    session: AsyncSession, seen: ModePreview, turns: Sequence[ModeTurn], now: datetime
) -> None:
    credentials: dict[str, Credential] = {}
    for batch in chunked([turn.connection.id for turn in turns], _AT_ONCE):
        rows = await session.scalars(
            select(Credential).where(col(Credential.connection_id).in_(batch))
        )
        credentials |= {row.connection_id: row for row in rows}
    ends: list[datetime] = []
    for turn in turns:
        credential = credentials.get(turn.connection.id)
        if turn.after.manages and not turn.before.manages:
            seen.to_manage.append(turn.label)
            if is_renewed(turn.connection, credential, now):
                seen.renewed.append(turn.label)
            if is_minted(turn.connection, credential, now):
                seen.minted.append(turn.label)
        elif turn.before.manages and not turn.after.manages:
            seen.to_observe.append(turn.label)
            if credential is not None and turn.connection.custody == "owned":
                seen.left.append(turn.label)
                ends += [credential.expires_at] if credential.expires_at else []
    seen.first_end = min(ends, default=None)


async def _count_people(
    session: AsyncSession,
    seen: ModePreview,
    turns: Sequence[ModeTurn],
    now: datetime,
    *,
    has_mail: bool,
) -> None:
    """Links and mails of lost logins, as `reconnect.ask` works them out moments later."""
    seen.silenced = [
        turn.label
        for turn in turns
        if turn.before.writes_to_customers and not turn.after.writes_to_customers
    ]
    heard = [
        turn
        for turn in turns
        if turn.after.writes_to_customers and not turn.before.writes_to_customers
    ]
    reached = set(
        await session.scalars(
            select(col(Contact.customer_id)).where(col(Contact.confirmed).is_(True)).distinct()
        )
        if heard
        else ()
    )
    seen.heard = [turn.label for turn in heard]
    seen.without_contact = [
        turn.label for turn in heard if turn.connection.customer_id not in reached
    ]
    lost = {turn.connection.id: turn for turn in turns if turn.connection.health == LOST}
    customers: set[str] = set()
    with_link: set[tuple[str, str | None, str]] = set()
    attempts: dict[str, int] = {}
    for batch in chunked(sorted(lost), _AT_ONCE):
        links = await links_of_lost_logins(session, batch, now)
        linked = {connection_id: incident for connection_id, (_, incident) in links.items()}
        underway = await implemented(session, batch)
        rows = await session.execute(
            select(
                col(IncidentConnection.connection_id),
                col(Incident.id),
                col(Reconnect.closed_at).is_not(None),
                col(Reconnect.outcome).is_not(None),
                col(Reconnect.attempt),
            )
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .outerjoin(Reconnect, col(Reconnect.incident_id) == col(Incident.id))
            .where(
                col(IncidentConnection.connection_id).in_(batch),
                col(IncidentConnection.left_at).is_(None),
                col(Incident.resolved_at).is_(None),
                col(Incident.kind) == LOST,
            )
        )
        for connection_id, incident_id, is_closed, is_given_up, attempt in rows:
            turn, came_with = lost[connection_id], underway.get(connection_id)
            seen.cases.append(incident_id)
            is_ahead = came_with is not None and came_with.live_at is None
            if is_closed or is_ahead or not turn.after.manages:
                continue
            customer = turn.connection.customer_id
            is_mailed = turn.after.writes_to_customers and has_mail and not is_given_up
            if connection_id not in linked:
                seen.links.append(turn.label)
                customers |= {customer} if customer and is_mailed else set()
            elif customer and is_mailed:
                with_link.add((incident_id, linked[connection_id], customer))
                attempts[incident_id] = attempt
    attempts = (
        await attempts_of(session, {before for _, before, _ in with_link if before}) | attempts
    )
    asked = await asked_customers(session, attempts, [customer for *_, customer in with_link])
    customers |= {
        customer
        for incident_id, before, customer in with_link
        if not {(incident_id, customer), (before, customer)} & asked
    }
    seen.cases = sorted(set(seen.cases))
    for batch in chunked(sorted(customers), _AT_ONCE):
        addresses = await session.scalars(
            select(col(Contact.email)).where(
                col(Contact.customer_id).in_(batch), col(Contact.confirmed)
            )
        )
        seen.people += sorted(set(addresses))
