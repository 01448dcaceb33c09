"""A case as the graph of its run: what the consumer did until the customer has logged in.

Verifying, backfilling and closing come after it; those are tasks of the run itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlmodel import col

from linekeeper.graph import Node
from linekeeper.outbox.about import attempt_of, is_a
from linekeeper.reconnect.case import KIND, Case
from linekeeper.store import Store
from linekeeper.store.tables import ConnectLink, Outbox, Transition

RENEW, LINK, MAIL, REMIND, LOGIN = "renew", "link", "mail", "remind", "login"
_ENDED = {
    "given_up": "Given up",
    "not_in_time": "Not in time",
    "moved": "Continued in another incident",
}


@dataclass(frozen=True, slots=True)
class CaseMail:
    """A mail to a customer about the case."""

    what: str
    """`ask`, `again`, `remind` or `thank`."""
    status: str
    written_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What is known of a case besides the case."""

    lost_at: datetime
    refusal: str
    """Why the login could not be renewed; may be empty."""
    links: Sequence[tuple[datetime, datetime | None]] = ()
    """When each connect link was made, and used."""
    mails: Sequence[CaseMail] = ()


async def load_facts(store: Store, case: Case) -> CaseFacts:
    """Read them; `case` has been taken up."""
    assert case.reconnect is not None
    incident, opened = case.incident.id, case.reconnect.opened_at
    attempt = case.reconnect.attempt
    members = [member.connection_id for member in case.members[:200]]
    async with store.read() as session:
        lost = await session.execute(_LOST, {"members": members})
        links = await session.execute(_LINKS, {"incident": incident})
        mails = await session.execute(_MAILS.where(is_a("mail", subject=incident)))
        case_row = lost.first()
        return CaseFacts(
            lost_at=min(case_row[0], opened) if case_row else opened,
            refusal=_said(case_row[1], case_row[2]) if case_row else "",
            links=[(row[0], row[1]) for row in links],
            mails=[
                CaseMail(payload["do"], *rest)
                for key, payload, *rest in mails
                if attempt_of(payload, key) == attempt
            ],
        )


_LOST = (
    select(col(Transition.at), col(Transition.source), col(Transition.evidence))
    .where(
        col(Transition.connection_id).in_(bindparam("members", expanding=True)),
        col(Transition.axis) == "health",
        col(Transition.after) == KIND,
    )
    .order_by(col(Transition.at).desc())
    .limit(1)
)
_LINKS = (
    select(col(ConnectLink.created_at), col(ConnectLink.used_at))
    .where(col(ConnectLink.incident_id) == bindparam("incident"))
    .order_by(col(ConnectLink.created_at))
)
_MAILS = (
    select(
        col(Outbox.dedupe_key),
        col(Outbox.payload),
        col(Outbox.status),
        col(Outbox.created_at),
        col(Outbox.settled_at),
    )
    .where(col(Outbox.channel) == "email")
    .order_by(col(Outbox.created_at))
)


def _said(source: str, evidence: dict[str, str]) -> str:
    said = (str(evidence[name]) for name in ("code", "message") if evidence.get(name))
    words = " ".join(dict.fromkeys(said))
    return f"{source}: {words}" if words else source


def nodes(case: Case, facts: CaseFacts, *, now: datetime) -> list[Node]:
    """The steps from the lost login to the new one, each after the one before. Pure."""
    reconnect = case.reconnect
    assert reconnect is not None
    is_over = not (case.is_open or case.is_unsettled)
    over = (case.incident.resolved_at or reconnect.closed_at or now) if is_over else None
    ended = over or (now if reconnect.outcome in _ENDED else None)
    opened = reconnect.opened_at
    steps = [
        _renewal(facts, opened),
        _link(facts, opened),
        _asking(facts, opened, over=ended),
        _reminding(facts, opened, over=ended),
        _login(case, facts, over=over, ended=ended, now=now),
    ]
    chained = [steps[0]]
    for node in steps[1:]:
        chained.append(replace(node, needs=(chained[-1].key,)))
    return chained


def _done(key: str, title: str, message: str, start: datetime, end: datetime) -> Node:
    start = min(start, end)
    return Node(key, title, (), "COMPLETED", "Completed", message, start, end)


def _skipped(key: str, title: str, message: str, at: datetime) -> Node:
    return Node(key, title, (), "COMPLETED", "Skipped", message, at, at)


def _renewal(facts: CaseFacts, opened: datetime) -> Node:
    because = f" {facts.refusal}." if facts.refusal else ""
    message = f"It can't be renewed without the customer.{because}"
    return _done(RENEW, "renew the login", message, facts.lost_at, opened)


def _link(facts: CaseFacts, opened: datetime) -> Node:
    if not facts.links:
        why = "No connect link was made: it is in mode observe, or the go-live is ahead."
        return _skipped(LINK, "make the connect link", why, opened)
    made = max(facts.links[0][0], opened)
    many = f"{len(facts.links)} connect links" if len(facts.links) > 1 else "A connect link"
    return _done(LINK, "make the connect link", f"{many}.", opened, made)


def _asking(facts: CaseFacts, opened: datetime, *, over: datetime | None) -> Node:
    title = "ask the customer by mail"
    mails = [mail for mail in facts.mails if mail.what in ("ask", "again")]
    if not mails:
        why = "Nobody is mailed by Linekeeper: mails to customers are off, or no contact is known."
        return _skipped(MAIL, title, why, opened)
    sent = [mail for mail in mails if mail.status in ("sent", "superseded")]  # with another one
    start = mails[0].written_at
    waiting = [mail for mail in mails if mail.status == "pending"]
    if waiting and over is None:
        message = f"{len(sent)} of {len(mails)} mails were sent."
        return Node(MAIL, title, (), "RUNNING", "Waiting to be sent", message, start, None)
    end = max((mail.settled_at or start for mail in mails), default=start)
    return _done(MAIL, title, f"{len(sent)} of {len(mails)} mails were sent.", start, end)


def _reminding(facts: CaseFacts, opened: datetime, *, over: datetime | None) -> Node:
    title = "remind the customer"
    sent = [mail for mail in facts.mails if mail.what == "remind" and mail.status == "sent"]
    counted = "1 reminder was sent" if len(sent) == 1 else f"{len(sent)} reminders were sent"
    if over is None:
        message = f"{counted}; they are due 1, 2 and 4 working days after the first mail."
        return Node(REMIND, title, (), "RUNNING", "Waiting", message, opened, None)
    if not sent:
        return _skipped(REMIND, title, "No reminder was sent.", opened)
    return _done(REMIND, title, f"{counted}.", opened, over)


def _login(
    case: Case, facts: CaseFacts, *, over: datetime | None, ended: datetime | None, now: datetime
) -> Node:
    reconnect = case.reconnect
    assert reconnect is not None
    title, start = "login", reconnect.opened_at
    used = [used_at for _, used_at in facts.links if used_at is not None and used_at >= start]
    if over is not None and not case.moved:
        if used:
            return _done(LOGIN, title, "The customer logged in.", start, max(used))
        return _done(LOGIN, title, "The connection is well again without a login.", start, over)
    if ended is not None or case.moved:
        name = _ENDED.get(reconnect.outcome or "moved", "Ended")
        at = ended or now
        return Node(LOGIN, title, (), "CANCELLED", name, f"{name}.", start, at)
    who = f"{len(case.waiting)} logins" if len(case.waiting) > 1 else "a login"
    message = f"Waiting for {who} until {reconnect.deadline_at:%-d %B %Y}."
    return Node(LOGIN, title, (), "RUNNING", "Waiting for the customer", message, start, None)
