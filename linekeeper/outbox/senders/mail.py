"""Mail to customers, composed as things are when it goes out.

A repeat has the same Message-ID, by which mail programs know it. What an incident asks for is
looked up when its mail goes out: a customer who has logged in meanwhile gets none.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.links import link_url
from linekeeper.access.page_links import page_address
from linekeeper.access.pending import kept_logins
from linekeeper.access.signing import Signer, load_signer
from linekeeper.clock import monotonic, utcnow, zone_of
from linekeeper.config import AppConfig, MailConfig
from linekeeper.customers.find import recipients
from linekeeper.customers.own_names import own_names
from linekeeper.customers.successors import last_successors, likely_succeeded
from linekeeper.health.evidence import Evidence
from linekeeper.health.token_missing import is_token_missing
from linekeeper.incidents.announce import announce, said_about
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.notify.letters import OF_NO_INCIDENT
from linekeeper.notify.mail_text import SystemToLogIn, What, compose
from linekeeper.notify.routing import prove_ours
from linekeeper.notify.smtp import Delayed, Letter, MailRefused, hand_over
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.mail_order import (
    CHANNEL,
    IN_WORKING_HOURS,
    is_reminder,
    is_written_to_anyway,
    keep_in_order,
)
from linekeeper.outbox.mail_together import (
    TOGETHER,
    WaitingMail,
    about_to_be_asked,
    asked_before,
    backlog_in_turn,
    backlogs_of,
    named_by,
)
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.outbox.sender import (
    Ended,
    Failed,
    OutboxRow,
    Partition,
    Result,
    Sender,
    Settlement,
)
from linekeeper.reconnect.counts import is_read_through
from linekeeper.reconnect.recent import not_known_losses
from linekeeper.reconnect.remind import put_off
from linekeeper.reconnect.resting_mails import resting_mails
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.modes import is_written_to
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Customer,
    Incident,
    IncidentConnection,
    Reconnect,
)
from linekeeper.tokens.lost_renewal import lost_renewals

ORDER_SECONDS = 30.0
"""How often mails that wait are put in order: version 0.1 may write beside this one."""
PAUSE_SECONDS = 30.0
"""How long the others pause when the mail server accepts nothing."""
_LOST = "reauthorization_required"
MOMENT = timedelta(seconds=1)
ASKED_AGAIN = timedelta(minutes=1)
"""Until it is looked again who rests, or could not be asked whether a login is needed."""
VERIFIED = (Evidence.probed, Evidence.read)
"""Evidence for which a customer is thanked: Makini's list says `Active` of a lost login, too."""


def mailing(rt: Runtime) -> Dispatcher:
    """The dispatcher of channel `email`.

    Without a mail account the rows are settled unsent, and say so; likewise where by now nobody is
    to be written to, as the settings of apps and the rules for single connections say.
    """
    return Dispatcher(rt.store, rt.owner, MailSender(rt))


class MailSender(Sender):
    """Hands mails to the mail server, a few side by side: it takes its time over each."""

    channel = CHANNEL

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._store = rt.store
        self._mail: MailConfig | None = None
        self._apps: Mapping[str, AppConfig] = {}
        self._signer: Signer | None = None
        self._refused: dict[str, list[str]] = {}
        """Recipients the server did not take, by the row's id."""
        self._ordered_until = 0.0
        self._zones: dict[str, str] = {}
        """The time zones of customers whose working hours are minded, by the row's id."""
        self._later: set[str] = set()
        """Rows of customers whose login may not be lost any more, or whose systems rest."""
        self._early: Collection[str] = ()
        """Rows of customers who are about to be asked for something else, too."""
        self._backlogs: dict[str, list[WaitingMail]] = {}
        """By row what asks for the same behind it, and is named in its mail."""

    async def partitions(self) -> Mapping[str, Partition]:
        """One mail server; another one is not paused because the one before took nothing."""
        configuration = await self._rt.configuration()
        self._mail, self._apps = configuration.mail, configuration.apps
        if monotonic() >= self._ordered_until:
            await keep_in_order(self._store)
            self._ordered_until = monotonic() + ORDER_SECONDS
        server = self._mail.smtp_url.get_secret_value() if self._mail else ""
        return {"": Partition(address=str(hash(server)))}

    @asynccontextmanager
    async def prepare(self, rows: Sequence[OutboxRow]) -> AsyncIterator[Mapping[str, Result]]:
        """The key that signs links, where the customers are, and whether what they are to be
        mailed is still so."""
        self._signer = await load_signer(self._store)
        asking = [row for row in rows if row.payload["do"] in TOGETHER]
        self._later |= {*await resting_mails(self._store, rows, self._apps)}
        self._early = await about_to_be_asked(self._store, asking, now=utcnow())
        async with self._store.read() as session:
            backlogs = await backlogs_of(session, asking)
        every = {
            (each, row.payload["customer_id"]) for row in asking for each in named_by(row, backlogs)
        }
        unsure = await not_known_losses(self._rt, every, now=utcnow()) if every else ()
        for row in asking:
            customer_id = row.payload["customer_id"]
            if (row.payload["incident_id"], customer_id) in unsure:
                self._later.add(row.id)
            self._backlogs[row.id] = [
                each for each in backlogs[row.id] if (each.incident_id, customer_id) not in unsure
            ]
        minded = [row for row in rows if row.payload["do"] in IN_WORKING_HOURS]
        whose = {row.id: row.payload["customer_id"] for row in minded}
        if whose:
            select_zones = select(col(Customer.id), col(Customer.time_zone)).where(
                col(Customer.id).in_(set(whose.values()))
            )
            async with self._store.read() as session:
                zones = {row[0]: row[1] for row in await session.execute(select_zones)}
            self._zones |= {row: zones[of] for row, of in whose.items() if of in zones}
        yield {}

    def forget(self, rows: Sequence[OutboxRow]) -> None:
        """The zones of these, and who is asked about again."""
        for row in rows:
            self._zones.pop(row.id, None)
            self._later.discard(row.id)
            self._backlogs.pop(row.id, None)

    def not_before(self, row: OutboxRow, now: datetime) -> datetime | None:
        """A mail that has waited past the customer's working hours waits for the next; one whose
        reason may be over waits until that is known, one whose systems rest until they don't."""
        if row.id in self._later:
            return now + ASKED_AGAIN
        if row.id in self._early:
            return now + MOMENT
        return put_off(now, self._zones.get(row.id), row.payload.get("ends", ()))

    def forgets_age(self, row: OutboxRow) -> bool:
        """What was refused before is given up after as long as ever."""
        return row.attempts == 1

    async def send(self, row: OutboxRow) -> Result:
        """Compose it and hand it over."""
        assert self._signer is not None
        if is_reminder(row) and await is_written_to_anyway(self._store, row, now=utcnow()):
            return Ended("superseded", "the customer is mailed about it anyway")
        url = self._rt.settings.resolved_public_url
        named = named_by(row, self._backlogs) if "incident_id" in row.payload else ()
        letter, covered = await _letter(
            self._store, row, self._signer, url, self._apps, incidents=named
        )
        if letter is None or self._mail is None:
            return Ended("skipped")
        if not letter.recipients:
            return Failed("no contact is known of this customer", is_final=True)
        try:
            await prove_ours(self._store, row)
            if refused := await hand_over(self._mail, letter, row.id):
                self._refused[row.id] = refused
        except MailRefused as problem:
            return Failed(str(problem), is_final=True)
        except Delayed as problem:
            return Failed(str(problem), pauses=problem.everything, pause=PAUSE_SECONDS)
        return Ended(covers=covered)

    async def settled(
        self, session: AsyncSession, settlement: Settlement, *, now: datetime
    ) -> None:
        """Operators learn who was not notified: where a mail waits, and where it is given up."""
        for row, _ in settlement.ended:
            if refused := self._refused.pop(row.id, None):
                await _notify(self._store, session, row, f"Not taken for {', '.join(refused)}", now)
        for row, failed, _ in settlement.retried:
            if row.attempts == 1:
                text = f"A mail waits: {failed.why}; it is tried again for 3 days"
                await _notify(self._store, session, row, text, now)
        for row, why in settlement.dead:
            await _notify(self._store, session, row, f"A mail was not sent: {why}", now)


async def _letter(
    store: Store,
    row: OutboxRow,
    signer: Signer,
    public_url: str,
    apps: Mapping[str, AppConfig],
    *,
    incidents: Sequence[str],
) -> tuple[Letter | None, Sequence[str]]:
    """The mail `row` asks for, as things are now; None if it isn't needed any more.

    It names the customer's systems of these `incidents`. With the keys of the mails behind it that
    ask for nothing else: whoever was asked by one has a link by now, and is named.
    """
    what: What = row.payload["do"]
    if write := OF_NO_INCIDENT.get(what):
        return await write(store, row, signer, public_url, apps), ()
    incident_id, customer_id = row.payload["incident_id"], row.payload["customer_id"]
    async with store.read() as session:
        backlog = await backlog_in_turn(session, row, incidents)
        customer = await session.get(Customer, customer_id)
        if customer is None:
            return None, ()
        addresses = await recipients(session, customer_id)
        members = (
            await session.scalars(
                select(Connection)
                .join(
                    IncidentConnection, col(IncidentConnection.connection_id) == col(Connection.id)
                )
                .where(
                    col(IncidentConnection.incident_id).in_(incidents),
                    col(Connection.customer_id) == customer_id,
                )
                .order_by(col(IncidentConnection.id))
            )
        ).all()
        case = await session.get(Reconnect, incident_id) if what == "thank" else None
        names = await own_names(session, customer_id)
        successors = await last_successors(session, members)
        ids = [member.id for member in members]
        unanswered = await lost_renewals(session, ids)
        spared = set(await likely_succeeded(session, ids))  # of the new one that is asked for
        for each, login in (await kept_logins(session, ids)).items():
            if what == "remind" or login.is_being_verified(utcnow()):
                spared.add(each)
        links = {
            link.connection_id: link
            for link in await session.scalars(
                select(ConnectLink)
                .where(
                    col(ConnectLink.connection_id).in_(ids),
                    col(ConnectLink.used_at).is_(None),
                    col(ConnectLink.expires_at) > utcnow(),
                )
                .order_by(col(ConnectLink.id))
            )
        }
    before = await asked_before(store, row, incidents, now=utcnow())
    zone = zone_of(customer.time_zone)
    counts = case.counts if case is not None else {}
    is_backfilled, systems, ends = True, [], []
    ours = {each.id: each for each in members if is_written_to(apps, each.app, each)}
    for member in ours.values():
        name = names.get(member.id) or member.provider or member.name
        lost = member.health == _LOST and member.setup != "disconnected"
        current = successors.get(member.id, member)  # whoever is thanked needs no login
        is_lost_again = current.health == _LOST and current.setup != "disconnected"
        if what == "thank" and not is_lost_again and current.evidence in VERIFIED:
            systems.append(SystemToLogIn(name, member.health_since.astimezone(zone), ""))
            is_backfilled &= is_read_through(counts.get(member.id) or counts.get(current.id))
        elif what != "thank" and lost and member.id not in spared and member.id in links:
            link = links[member.id]
            ends.append(link.expires_at.astimezone(zone))
            systems.append(
                SystemToLogIn(
                    name,
                    member.health_since.astimezone(zone),
                    link_url(signer, public_url, link.id),
                    is_new=is_token_missing(member.judged),
                    is_renewal_lost=member.id in unanswered,
                )
            )
    if not systems:
        return None, ()
    text = compose(
        what,
        customer.name,
        systems,
        until=min(ends, default=None),
        is_backfilled=is_backfilled,
        is_also=before is not None,
        locale=customer.locale,
        page=await page_address(store, customer_id, signer, public_url, now=utcnow()),
    )
    answers = (before[0], f"{before[1]}.{customer_id}") if before else None
    thread = f"{incident_id}.{customer_id}"
    letter = Letter(addresses, text.subject, text.body, text.html, thread, answers)
    return letter, [each.dedupe_key for each in backlog if each.incident_id in incidents]


async def _notify(
    store: Store, session: AsyncSession, row: OutboxRow, text: str, now: datetime
) -> None:
    """Say it in the incident's thread; where there is no incident, in a message of its own."""
    customer = await session.get(Customer, row.payload["customer_id"])
    whose = f"{customer.name}: " if customer else ""
    if "incident_id" in row.payload:
        incident = await session.get(Incident, row.payload["incident_id"])
        if incident is not None:
            change = IncidentChange(incident.id, "changed", f"{whose}{text}.")
            await announce(store, session, [change], now=now)
        return
    match row.payload["do"]:
        case "setup":
            about, why = f"setup:{row.payload['link_id']}", "its login is to be set up"
        case "page":
            about, why = f"page:{row.payload['link_id']}", "the link to its own page was to be sent"
        case _:
            about, why = f"expiry:{row.payload['connections'][0]}", "its login ends soon"
    again = "customer-update" if row.payload["do"] == "page" else "connect"
    then = "send it again" if again == "customer-update" else "pass the link on"
    payload = {
        "do": "say",
        "subject": about,
        "text": f"{whose}{why}. {text}. Run `{again}` and {then}.",
        **said_about("login", customer_id=row.payload["customer_id"]),
    }
    key = f"slack:say:{row.dedupe_key}:{text[:60]}"
    await enqueue(store, session, [Message("slack", key, payload, kind="say")], now=now)
