"""Asking the customer: links, mails and the run of an incident, as the incident is now.

Everything here compares what there should be with what there is, so that a repeat, a crash or two
consumers at once change nothing: each thing has a key of its own.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.links import GONE, asked_customers, attempts_of, link_url, make_link
from linekeeper.access.signing import Signer, load_signer
from linekeeper.config import AppConfig, Configuration
from linekeeper.customers.reachable import with_contacts
from linekeeper.customers.successors import likely_succeeded
from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import IncidentChange, annotate
from linekeeper.incidents.operate import NoIncident, audit_id
from linekeeper.incidents.windows import resting_until
from linekeeper.makini import ReadOnlyApp
from linekeeper.outbox.events import planned_ordering_key, request_reconnect_at
from linekeeper.outbox.queue import enqueue
from linekeeper.outbox.sender import supersede
from linekeeper.reconnect.case import Case, Member, customers_of, load_case
from linekeeper.reconnect.mails import ask_once, mail, waiting_to_go
from linekeeper.reconnect.remind import DEADLINE, JOINS_LATE
from linekeeper.reconnect.runs import reopen, resume, start_run, wake, withdraw_run
from linekeeper.runtime import Runtime
from linekeeper.store.modes import app_of
from linekeeper.store.tables import Audit, Outbox, Reconnect
from linekeeper.text import named

LOOK_AGAIN = timedelta(minutes=5)


async def advance_case(
    rt: Runtime, incident_id: str, *, now: datetime, looked_at: Collection[str] | None = None
) -> None:
    """Bring the case of an incident in line with it: open it, ask, or let its run see the end.

    Of those who were not asked yet only such are as are `looked_at`; without it, all.
    """
    configuration = await rt.configuration()
    signer = await load_signer(rt.store)
    async with rt.store.write() as session:
        case = await load_case(rt.store, incident_id, now=now, session=session)
        if case is None:
            return
        if case.is_unsettled:
            return  # its run waits, and nobody is asked for what may be no loss
        if not case.is_open:
            if case.moved and case.reconnect and await withdraw_run(session, case, now=now):
                case.reconnect.closed_at, case.reconnect.outcome = now, "moved"
                await session.flush()
            elif case.reconnect is not None and case.is_working:
                over_at = case.incident.resolved_at or case.reconnect.deadline_at
                await wake(rt, session, case.reconnect, over_at=over_at, now=now)
            elif case.reconnect is not None and case.has_stopped and not case.moved:
                await resume(session, case.reconnect)
                await start_run(rt, session, case, case.reconnect, now=now)
            return
        if case.reconnect is not None and case.reconnect.closed_at is not None:
            if case.has_stopped and not case.waits_anew:
                return  # people gave it up, or time did
            await reopen(session, case, case.reconnect, now)
        reconnect = await _opened(session, case, now)
        await start_run(rt, session, case, reconnect, now=now)
        app = configuration.apps.get(case.incident.app)
        if app is not None:
            asking = _Asking(rt, session, case, reconnect, now)
            await asking.ask(configuration, app, signer, looked_at)


async def _opened(session: AsyncSession, case: Case, now: datetime) -> Reconnect:
    reconnect = case.reconnect
    if reconnect is None:
        reconnect = Reconnect(
            incident_id=case.incident.id, opened_at=now, deadline_at=now + DEADLINE
        )
        session.add(reconnect)
    windows = {
        member.connection_id: (member.last_good_at or member.health_since).isoformat()
        for member in case.members
        if member.live and member.connection_id not in reconnect.windows
    }
    if windows:
        reconnect.windows = {**reconnect.windows, **windows}
    late = [
        member.joined_at
        for member in case.members
        if member.live and member.joined_at - reconnect.opened_at > JOINS_LATE
    ]
    if late:  # the case waits for who has joined last
        reconnect.deadline_at = max(reconnect.deadline_at, max(late) + DEADLINE)
    await session.flush()
    return reconnect


class _Asking:
    """Asking the customers of one case, in the caller's transaction."""

    def __init__(
        self, rt: Runtime, session: AsyncSession, case: Case, reconnect: Reconnect, now: datetime
    ) -> None:
        self._rt = rt
        self._session = session
        self._case = case
        self._reconnect = reconnect
        self._now = now

    async def ask(
        self,
        configuration: Configuration,
        app: AppConfig,
        signer: Signer,
        looked_at: Collection[str] | None = None,
    ) -> None:
        """Make the links that are missing, mail those who were not, show the link in Slack.

        Nobody is written to in a maintenance window; what is still lost at its end is asked then.
        Nor is who has just logged in, by whichever link, while that is being verified.
        """
        to_ask = self._case.to_ask(app)
        ids = [member.connection_id for member in to_ask]
        resting = await resting_until(self._session, ids, self._now)
        if resting:
            await self._look_again(min(resting.values()))
        waiting = [
            member
            for member in to_ask
            if member.link_id
            or (
                (looked_at is None or member.connection_id in looked_at)
                and member.connection_id not in resting
            )
        ]
        made = {member.connection_id: await self._link(member) for member in waiting}
        texts: list[str] = []
        asked = await who_was_asked(self._session, self._case, self._reconnect)
        written = [
            member
            for member in waiting
            if member.connection_id not in resting
            and app_of(app, member.chosen).writes_to_customers
            and not member.is_being_verified
        ]
        if any(member.is_being_verified for member in waiting):
            await self._look_again(self._now + LOOK_AGAIN)
        notified = [
            member
            for member in written
            # A link may be older than the wish that customers are written to.
            if (member.link_id is None or member.connection_id not in asked)
            and not member.token_missing
        ]
        if notified and self._reconnect.outcome is None:
            texts = await self._mail(notified, made, configuration)
        if configuration.mail is not None and self._reconnect.outcome is None:
            texts += await ask_once(
                self._rt.store,
                self._session,
                (self._case.incident.id, self._reconnect.attempt),
                [member for member in written if member.token_missing],
                now=self._now,
            )
        url = None
        if len(waiting) == 1:
            link_id = made[waiting[0].connection_id]
            url = link_url(signer, self._rt.settings.resolved_public_url, link_id)
        changed = await annotate(self._session, self._case.incident, connect_url=url)
        if changed or texts:
            change = IncidentChange(self._case.incident.id, "changed", "\n".join(texts))
            await announce(self._rt.store, self._session, [change], now=self._now)

    async def _look_again(self, at: datetime) -> None:
        """Once, at the end of a window, or soon: somebody may end it before."""
        incident_id, at = self._case.incident.id, min(at, self._now + LOOK_AGAIN)
        planned = await self._session.execute(
            select(col(Outbox.dedupe_key), col(Outbox.next_attempt_at)).where(
                col(Outbox.ordering_key) == planned_ordering_key(incident_id),
                col(Outbox.status) == "pending",
                col(Outbox.claimed_by).is_(None),
            )
        )
        looks = {row[0]: row[1] for row in planned}
        if any(first <= at for first in looks.values()):
            return
        await supersede(self._session, looks, now=self._now)
        again = request_reconnect_at(incident_id, at)
        await enqueue(self._rt.store, self._session, [again], now=self._now)

    async def _link(self, member: Member) -> str:
        if member.link_id is not None:
            return member.link_id
        link = await make_link(
            self._session,
            app=member.app,
            connection_id=member.connection_id,
            customer_id=member.customer_id,
            incident_id=self._case.incident.id,
            system=member.system,
            by="linekeeper",
            now=self._now,
        )
        return link.id

    async def _mail(
        self, fresh: Sequence[Member], links: Mapping[str, str], configuration: Configuration
    ) -> list[str]:
        """One mail a customer; returns what operators should know of it, once.

        A mail shows all its customer's systems as they are when it goes out: another is written
        only where that of an earlier loss has gone already.
        """
        if configuration.mail is None:
            is_first = all(member.link_id is None for member in self._case.waiting)
            text = "No customer was mailed: the block Mail is not filled in."
            return [text] if is_first else []
        customers = {member.customer_id: member.customer for member in fresh if member.customer_id}
        newest = {
            member.customer_id: links[member.connection_id]
            for member in fresh
            if member.customer_id
        }
        reachable = await with_contacts(self._session, list(customers))
        incident, attempt = self._case.incident.id, self._reconnect.attempt
        rows = [
            mail(incident, attempt, customer, "ask", newest[customer])
            for customer in customers
            if customer in reachable
        ]
        waiting = await waiting_to_go(self._session, (incident, attempt), reachable)
        rows = [row for row in rows if row.payload["customer_id"] not in waiting]
        await enqueue(self._rt.store, self._session, rows, now=self._now)
        mailed = {row.payload["customer_id"] for row in rows}
        new = {member.customer_id for member in fresh if member.link_id is None}
        lost, late = [], []
        for customer_id, name in sorted(customers.items(), key=lambda item: str(item[1])):
            if customer_id in new and customer_id not in reachable:
                lost.append(str(name))
            elif customer_id not in new and customer_id in mailed:
                late.append(str(name))
        texts = [f"Nobody to mail: no contact is known of {named(lost)}."] if lost else []
        return [*texts, f"By now asked by mail: {named(late)}."] if late else texts


async def who_was_asked(
    session: AsyncSession, case: Case, reconnect: Reconnect, *, has_gone: bool = False
) -> set[str]:
    """The connections whose customers were mailed for this loss.

    That may have been in another incident, which goes on in this one. `has_gone`: only mails that
    were sent count.
    """
    before = {member.asked_in for member in case.members if member.asked_in is not None}
    attempts = await attempts_of(session, before) | {case.incident.id: reconnect.attempt}
    customers = [member.customer_id for member in case.members if member.customer_id]
    asked = await asked_customers(session, attempts, customers, statuses=GONE if has_gone else ())
    return {
        member.connection_id
        for member in case.members
        if {(case.incident.id, member.customer_id), (member.asked_in, member.customer_id)} & asked
    }


async def send_again(
    rt: Runtime, incident_id: str, *, by: str, now: datetime, press: str | None = None
) -> str:
    """Mail the links of an incident once more; where one was used or ended, a new one.

    Not to whom logs in just now. The same `press` is done once.
    Returns what happened, in a sentence. Raises `NoIncident`, or `ReadOnlyApp` in `observe`.
    """
    configuration = await rt.configuration()
    signer = await load_signer(rt.store)
    async with rt.store.write() as session:
        case = await load_case(rt.store, incident_id, now=now, session=session)
        if case is None or not case.is_open or not case.waiting:
            raise NoIncident("nobody has to log in any more")
        if not case.after_go_live:
            raise NoIncident("it is not live yet: send the link from its implementation's page")
        app = await rt.app(case.incident.app)
        asked = case.to_ask(app)
        if not asked:
            raise ReadOnlyApp(app.name, "send a connect link", case.after_go_live[0].label)
        succeeded = await likely_succeeded(session, [member.connection_id for member in asked])
        asked = [member for member in asked if member.connection_id not in succeeded]
        if not asked:
            raise NoIncident(
                "Makini lists a new connection in its place, whose own incident asks for its login"
            )
        asked = [member for member in asked if not member.is_being_verified]
        if not asked:
            raise NoIncident("somebody logged in within the last hour, and that is being verified")
        audited = audit_id(press, "send_again")
        if await session.get(Audit, audited) is not None:
            return "the link was sent again before"
        reconnect = await _opened(session, case, now)
        asking = _Asking(rt, session, case, reconnect, now)
        await asking.ask(configuration, app, signer)
        customers = customers_of(asked, app)
        reachable = await with_contacts(session, customers)
        mailed = [customer for customer in customers if customer in reachable]
        if not configuration.mail:
            mailed = []
        turn = int(now.timestamp() // 60)  # two presses at once are one mail
        rows = [
            mail(incident_id, reconnect.attempt, customer_id, "again", str(turn))
            for customer_id in mailed
        ]
        # Whose first mail about it has not gone yet gets that alone.
        first = await waiting_to_go(session, (incident_id, reconnect.attempt), mailed)
        repeated = [row for row in rows if row.payload["customer_id"] not in first]
        await enqueue(rt.store, session, repeated, now=now)
        again = " again" if repeated else ""
        sentence = (
            f"the link is mailed{again} to {len(mailed)} customers"
            if len(mailed) > 1
            else f"the link is mailed{again}"
            if mailed
            else "nobody is mailed (no contact, or mail is off): pass the link on from here"
        )
        session.add(
            Audit(id=audited, at=now, by=by, action="reconnect.sent_again", subject=incident_id)
        )
        change = IncidentChange(incident_id, "changed", f"{by}: {sentence}.")
        await announce(rt.store, session, [change], now=now)
    return sentence
