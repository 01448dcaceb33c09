"""Connect links and the `state` that goes through Makini Link.

Pure, but for what takes a session.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy import bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.signing import Signer
from linekeeper.clock import token_bytes
from linekeeper.config import AppConfig
from linekeeper.customers.own_names import own_names
from linekeeper.outbox.about import attempt_of
from linekeeper.outbox.mail_order import mail_ordering_key
from linekeeper.store import new_id
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, ConnectLink, Outbox, Reconnect
from linekeeper.store.types import UtcDateTime

LINK_LIVES = timedelta(days=7)
STATE_LIVES = timedelta(minutes=30)
CLOCKS_DIFFER = timedelta(minutes=10)
"""What is well so much later than a link was made was well after it, whosever clock is wrong."""
_LINK, _STATE = "connect-link", "oauth-state"


@dataclass(frozen=True, slots=True)
class LinkState:
    """What we sent through Makini Link and got back. `expires_at` is UTC."""

    link_id: str
    nonce: str
    """Good for one callback."""
    expires_at: datetime


async def make_link(
    session: AsyncSession,
    *,
    app: str,
    connection_id: str | None,
    customer_id: str | None,
    system: str,
    by: str,
    now: datetime,
    incident_id: str | None = None,
    expires_at: datetime | None = None,
) -> ConnectLink:
    """A new link, in the caller's transaction; `connection_id` None is for a new system.

    `system` is what the customer reads, unless they have several of that product.

    It lives for `LINK_LIVES`, unless `expires_at` says until when.
    """
    if connection_id is not None:
        names = await own_names(session, customer_id, like=connection_id)
        system = names.get(connection_id, system)
    link = ConnectLink(
        id=new_id(),
        app=app,
        connection_id=connection_id,
        customer_id=customer_id,
        incident_id=incident_id,
        system=system,
        created_at=now,
        created_by=by,
        expires_at=expires_at or now + LINK_LIVES,
    )
    session.add(link)
    await session.flush()
    return link


def link_url(signer: Signer, public_url: str, link_id: str) -> str:
    """The customer's page; the same link has the same address each time."""
    return f"{public_url}/connect/{signer.sign(_LINK, UUID(link_id).bytes)}"


def read_link(signer: Signer, token: str) -> str | None:
    """The link's id in `token`, or None for a token we didn't sign."""
    payload = signer.open(_LINK, token)
    return str(UUID(bytes=payload)) if payload is not None and len(payload) == 16 else None


def make_state(signer: Signer, link_id: str, *, now: datetime) -> str:
    """A `state` for one pass through Makini Link, bound to its link."""
    ends = int((now + STATE_LIVES).timestamp())
    payload = UUID(link_id).bytes + token_bytes(12) + ends.to_bytes(6, "big")
    return signer.sign(_STATE, payload)


def read_state(signer: Signer, text: str) -> LinkState | None:
    """What `text` says, expired or not; None if we didn't sign it."""
    payload = signer.open(_STATE, text)
    if payload is None or len(payload) != 34:
        return None
    ends = datetime.fromtimestamp(int.from_bytes(payload[28:], "big"), UTC)
    return LinkState(str(UUID(bytes=payload[:16])), payload[16:28].hex(), ends)


def redirect_uri(public_url: str) -> str:
    """Where Makini Link sends the customer back to; register it in Makini's dashboard."""
    return f"{public_url}/oauth/callback"


def authorize_url(app: AppConfig, public_url: str, state: str) -> str:
    """Makini Link's page for this customer (MAKINI "Link")."""
    query = urlencode(
        {
            "response_type": "code",
            "client_id": app.client_id,
            "redirect_uri": redirect_uri(public_url),
            "state": state,
        }
    )
    return f"{app.link_url}/oauth/authorize?{query}"


_OF_LOST_LOGINS = (
    select(
        col(ConnectLink.connection_id),
        col(ConnectLink.id),
        col(ConnectLink.incident_id),
        col(ConnectLink.created_at),
        col(Connection.last_good_at),
    )
    .join(Connection, col(Connection.id) == col(ConnectLink.connection_id))
    .where(
        col(ConnectLink.connection_id).in_(bindparam("connections", expanding=True)),
        col(ConnectLink.incident_id).is_not(None),
        col(ConnectLink.used_at).is_(None),
        col(ConnectLink.expires_at) > bindparam("expires_after", type_=UtcDateTime),
    )
    .order_by(col(ConnectLink.id))
)


async def links_of_lost_logins(
    session: AsyncSession, connections: Sequence[str], now: datetime, *, also_ended: bool = False
) -> dict[str, tuple[str, str | None]]:
    """Return by connection its newest link for a lost login that still works, and the incident;
    where `also_ended`, that has expired unused as well.

    One from before the connection was seen well for the last time was for another loss.
    """
    links: dict[str, tuple[str, str | None]] = {}
    expires_after = datetime.fromtimestamp(0, UTC) if also_ended else now
    for chunk in chunked(connections, 5_000):
        given = {"connections": chunk, "expires_after": expires_after}
        rows = await session.execute(_OF_LOST_LOGINS, given)
        for connection_id, link_id, incident_id, made_at, well_at in rows:
            if well_at is None or not made_at + CLOCKS_DIFFER < well_at <= now:
                links[str(connection_id)] = (link_id, incident_id)
    return links


async def attempts_of(session: AsyncSession, incidents: Collection[str]) -> dict[str, int]:
    """The present attempt of each of `incidents` that is not over, or goes on in another one."""
    attempts: dict[str, int] = {}
    for chunk in chunked(sorted(incidents), 5_000):
        rows = await session.execute(
            select(col(Reconnect.incident_id), col(Reconnect.attempt)).where(
                col(Reconnect.incident_id).in_(chunk),
                or_(col(Reconnect.outcome).is_(None), col(Reconnect.outcome) == "moved"),
            )
        )
        attempts |= {row[0]: row[1] for row in rows}
    return attempts


GONE = ("sent", "superseded")
"""In which statuses a mail has gone out, itself or what it asks in another one."""


async def asked_customers(
    session: AsyncSession,
    attempts: Mapping[str, int],
    customers: Sequence[str],
    *,
    statuses: Sequence[str] = (),
) -> set[tuple[str, str]]:
    """Incident and customer, where a mail of the incident's present attempt asks, or asked.

    `attempts` are by the incidents' ids; `statuses`: only mails that are in one of these. A mail
    is known for a week after it went out, which is as long as a case and its links last.
    """
    asked: set[tuple[str, str]] = set()
    for chunk in chunked(sorted(set(customers)), 5_000):
        ordering_keys = [mail_ordering_key("ask", customer) for customer in chunk]
        mails = select(col(Outbox.payload), col(Outbox.dedupe_key)).where(
            col(Outbox.ordering_key).in_(ordering_keys)
        )
        if statuses:
            mails = mails.where(col(Outbox.status).in_(statuses))
        for payload, key in await session.execute(mails):
            if payload["do"] == "ask":
                incident = payload["incident_id"]
                if attempts.get(incident) == attempt_of(payload, key):
                    asked.add((incident, payload["customer_id"]))
    return asked


async def links_given(
    session: AsyncSession, lost: Mapping[str, tuple[str, str | None]], now: datetime
) -> dict[str, bool | None]:
    """Return by connection with a link for its lost login whether its customer is mailed it, None
    where the link has expired unused.

    `lost`: connection → incident, customer. A mail may ask in an incident that goes on in it.
    """
    links = await links_of_lost_logins(session, list(lost), now)
    incidents = {incident for incident, _ in lost.values()}
    attempts = await attempts_of(session, incidents | {of for _, of in links.values() if of})
    customers = [customer for _, customer in lost.values() if customer]
    asked = await asked_customers(session, attempts, customers, statuses=("pending", *GONE))
    expired = [each for each in lost if each not in links]
    ended = await links_of_lost_logins(session, expired, now, also_ended=True)
    given: dict[str, bool | None] = dict.fromkeys(ended)
    for connection_id, (_, asked_in) in links.items():
        incident, customer = lost[connection_id]
        given[connection_id] = bool({(incident, customer), (asked_in, customer)} & asked)
    return given
