"""Delivering mail: rows of the outbox channel `email`, rendered at delivery.

A repeat has the same Message-ID, by which mail programs know it. What an incident asks for is
looked up when its mail goes out: a customer who has logged in meanwhile gets none.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlmodel import col

from linekeeper.access.channel import is_due
from linekeeper.access.links import link_url
from linekeeper.access.page_links import page_address
from linekeeper.access.signing import Signer, load_signer
from linekeeper.clock import monotonic, utcnow, zone_of
from linekeeper.config import MailConfig
from linekeeper.customers.contacts import recipients
from linekeeper.incidents.announce import announce
from linekeeper.incidents.changes import IncidentChange
from linekeeper.notify.mail_ending import ending_letter
from linekeeper.notify.mail_setup import setup_letter
from linekeeper.notify.mail_text import SystemToLogIn, What, compose
from linekeeper.outbox.queue import Message, claim, dead_letter, enqueue, postpone, retry_at, settle
from linekeeper.outbox.senders.smtp import Delayed, Letter, Refused, hand_over
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Customer,
    Incident,
    IncidentConnection,
    Outbox,
)

GIVE_UP_AFTER = timedelta(days=3)
_START_WITHIN_SECONDS = 60.0
"""With the time-out of `smtp` it is less than a claim lasts (`outbox.CLAIM_SECONDS`)."""
_PAUSE = timedelta(seconds=30)
"""For the others, when the mail server takes nothing."""
_BATCH = 20
_SIDE_BY_SIDE = 4
_LOST = "reauthorization_required"


async def deliver_mail(
    store: Store, mail: MailConfig | None, owner: str, *, public_url: str
) -> bool:
    """Send the mails that are due; returns whether any was. Trouble stays in the row.

    Without a mail account the rows are settled unsent, and say so.
    """
    if not await is_due(store, "email", now=utcnow()):
        return False
    rows = await claim(store, "email", owner, limit=_BATCH, now=utcnow())
    if not rows:
        return False
    delivery = _Delivery(store, mail, owner, await load_signer(store), public_url)
    await delivery.all_of(rows)
    return delivery.sent


class _Delivery:
    """One batch of mails, a few side by side: a server takes its time over each."""

    def __init__(
        self, store: Store, mail: MailConfig | None, owner: str, signer: Signer, public_url: str
    ) -> None:
        self._store = store
        self._mail = mail
        self._owner = owner
        self._signer = signer
        self._public_url = public_url
        self._some = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._held_up = ""
        self.sent = False

    async def all_of(self, rows: Sequence[Outbox]) -> None:
        """Deliver `rows`; those the server takes nothing of wait."""
        began, untouched = monotonic(), []

        async def one(row: Outbox) -> None:
            async with self._some:
                if self._held_up or monotonic() - began > _START_WITHIN_SECONDS:
                    untouched.append(row)
                else:
                    await self._deliver(row)

        endings = await asyncio.gather(*map(one, rows), return_exceptions=True)
        if untouched:
            until = utcnow() + (_PAUSE if self._held_up else timedelta())
            await postpone(self._store, untouched, self._owner, self._held_up, until=until)
        for ending in endings:
            if ending is not None:
                raise ending

    async def _deliver(self, row: Outbox) -> None:
        store, owner = self._store, self._owner
        letter = await _letter(store, row, self._signer, self._public_url)
        if letter is None or self._mail is None:
            await settle(store, [row], owner, now=utcnow(), became="skipped")
            return
        if not letter.recipients:
            await _give_up(store, row, owner, "no contact is known of this customer")
            return
        try:
            refused = await hand_over(self._mail, letter, row.id)
        except Refused as problem:
            await _give_up(store, row, owner, str(problem))
        except Delayed as problem:
            if problem.everything:
                self._held_up = str(problem)
            await _later(store, row, owner, str(problem))
        else:
            self.sent = True
            await settle(store, [row], owner, now=utcnow())
            if refused:
                await _tell(store, row, f"Not taken for {', '.join(refused)}")


async def _letter(store: Store, row: Outbox, signer: Signer, public_url: str) -> Letter | None:
    """The mail `row` asks for, as things are now; None if it isn't needed any more."""
    what: What = row.payload["do"]
    if what == "ending":
        return await ending_letter(store, row, signer, public_url)
    if what == "setup":
        return await setup_letter(store, row, signer, public_url)
    incident_id, customer_id = row.payload["incident_id"], row.payload["customer_id"]
    async with store.read() as session:
        customer = await session.get(Customer, customer_id)
        if customer is None:
            return None
        addresses = await recipients(session, customer_id)
        members = (
            await session.scalars(
                select(Connection)
                .join(
                    IncidentConnection, col(IncidentConnection.connection_id) == col(Connection.id)
                )
                .where(
                    col(IncidentConnection.incident_id) == incident_id,
                    col(Connection.customer_id) == customer_id,
                )
                .order_by(col(IncidentConnection.id))
            )
        ).all()
        links = {
            link.connection_id: link
            for link in await session.scalars(
                select(ConnectLink)
                .where(
                    col(ConnectLink.connection_id).in_([one.id for one in members]),
                    col(ConnectLink.used_at).is_(None),
                    col(ConnectLink.expires_at) > utcnow(),
                )
                .order_by(col(ConnectLink.id))
            )
        }
    zone = zone_of(customer.time_zone)
    systems, ends = [], []
    for one in {one.id: one for one in members}.values():
        link = links.get(one.id)
        lost = one.health == _LOST and one.setup != "disconnected"
        if what == "thank" and not lost:
            name = one.provider or one.name
            systems.append(SystemToLogIn(name, one.health_since.astimezone(zone), ""))
        elif what != "thank" and lost and link is not None:
            ends.append(link.expires_at.astimezone(zone))
            systems.append(
                SystemToLogIn(
                    one.provider or one.name,
                    one.health_since.astimezone(zone),
                    link_url(signer, public_url, link.id),
                )
            )
    if not systems:
        return None
    text = compose(
        what,
        customer.name,
        systems,
        until=min(ends, default=None),
        locale=customer.locale,
        page=await page_address(store, customer_id, signer, public_url, now=utcnow()),
    )
    return Letter(addresses, text.subject, text.body, text.html, f"{incident_id}.{customer_id}")


async def _later(store: Store, row: Outbox, owner: str, reason: str) -> None:
    now = utcnow()
    if now - row.created_at > GIVE_UP_AFTER:
        await _give_up(store, row, owner, f"given up after 3 days: {reason}")
        return
    await postpone(store, [row], owner, reason, until=retry_at(row.attempts, now=now))
    if row.attempts == 1:
        await _tell(store, row, f"A mail waits: {reason}; it is tried again for 3 days")


async def _give_up(store: Store, row: Outbox, owner: str, reason: str) -> None:
    await dead_letter(store, row, owner, reason, now=utcnow())
    await _tell(store, row, f"A mail was not sent: {reason}")


async def _tell(store: Store, row: Outbox, text: str) -> None:
    """In the incident's thread, so that operators know who was not told."""
    now: datetime = utcnow()
    if "incident_id" not in row.payload:
        await _tell_of_ending(store, row, text, now)
        return
    async with store.write() as session:
        customer = await session.get(Customer, row.payload["customer_id"])
        incident = await session.get(Incident, row.payload["incident_id"])
        if incident is not None:
            whose = f"{customer.name}: " if customer else ""
            change = IncidentChange(incident.id, "changed", f"{whose}{text}.")
            await announce(store, session, [change], now=now)


async def _tell_of_ending(store: Store, row: Outbox, text: str, now: datetime) -> None:
    """To operators, where there is no incident: the customer was not asked."""
    is_new = row.payload["do"] == "setup"
    about = (
        f"setup:{row.payload['link_id']}" if is_new else f"expiry:{row.payload['connections'][0]}"
    )
    why = "its login is to be set up" if is_new else "its login ends soon"
    async with store.write() as session:
        customer = await session.get(Customer, row.payload["customer_id"])
        whose = f"{customer.name}: " if customer else ""
        message = Message(
            "slack",
            f"slack:say:{row.dedupe_key}:{text[:60]}",
            {
                "do": "say",
                "subject": about,
                "text": f"{whose}{why}. {text}. Run `connect` and pass the link on.",
            },
        )
        await enqueue(store, session, [message], now=now)
