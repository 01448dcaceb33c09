"""Customers nobody was able to ask, and who can be asked now though nothing said that."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.customers.reachable import with_contacts
from linekeeper.outbox.about import attempt_of
from linekeeper.outbox.events import request_reconnects
from linekeeper.outbox.mail_order import mail_ordering_key
from linekeeper.outbox.queue import enqueue
from linekeeper.reconnect.open_cases import OpenCase, load_open_cases
from linekeeper.reconnect.watch import may_mail
from linekeeper.runtime import Runtime
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Outbox

_Rules = tuple[bool, frozenset[tuple[str, bool, bool]]]


class Unasked:
    """Has the cases looked at of customers whom no mail asked, and whom one can ask now.

    A contact that is named has its customer's cases looked at. This does where nothing said that:
    the contact was named in a version before that, or mails were switched on in a block. It looks
    at the start, and again whenever who may be mailed is set otherwise.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._looked_by: _Rules | None = None

    async def step(self) -> bool:
        """Look, unless that was done by the same rules."""
        configuration = await self._rt.configuration()
        rules = _rules(configuration)
        if rules != self._looked_by:
            await self._look(configuration)
            self._looked_by = rules
        return False

    async def _look(self, configuration: Configuration) -> None:
        members = [
            (case, member.customer_id)
            for case in await load_open_cases(self._rt.store)
            if case.is_open and case.outcome is None
            for member in case.waiting
            if member.customer_id
            and not member.has_logged_in
            and may_mail(configuration.apps.get(case.app), member, configuration)
        ]
        if not members:
            return
        async with self._rt.store.write() as session:
            customers = sorted({customer for _, customer in members})
            reachable = await with_contacts(session, customers)
            mailed = await _mailed(session, reachable)
            cases = {
                case.incident_id
                for case, customer in members
                if customer in reachable and _about(case, customer) not in mailed
            }
            await enqueue(self._rt.store, session, request_reconnects(sorted(cases)), now=utcnow())


def _rules(configuration: Configuration) -> _Rules:
    """What decides of whom mails may go out."""
    return configuration.mail is not None, frozenset(
        (app.name, app.manages, app.notify_customers) for app in configuration.apps.values()
    )


def _about(case: OpenCase, customer: str) -> tuple[str, int, str]:
    return case.incident_id, case.attempt, customer


async def _mailed(session: AsyncSession, customers: Collection[str]) -> set[tuple[str, int, str]]:
    """Incident, attempt and customer of every mail to `customers` about a case."""
    mailed: set[tuple[str, int, str]] = set()
    for chunk in chunked(sorted(customers), 5_000):
        mails = await session.execute(
            select(col(Outbox.payload), col(Outbox.dedupe_key)).where(
                col(Outbox.ordering_key).in_(
                    mail_ordering_key(do, customer)
                    for customer in chunk
                    for do in ("ask", "remind")
                )
            )
        )
        mailed |= {
            (payload["incident_id"], attempt_of(payload, key), payload["customer_id"])
            for payload, key in mails
            if "incident_id" in payload
        }
    return mailed
