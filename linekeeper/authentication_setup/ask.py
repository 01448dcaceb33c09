"""Asking the customer for the login, and reminding: by mail, or by whoever passes the link on."""

from datetime import datetime
from typing import Any

from linekeeper.access.links import link_url
from linekeeper.access.signing import load_signer
from linekeeper.authentication_setup.decide import SetupStanding, SetupSubject
from linekeeper.authentication_setup.service import known, load_standing
from linekeeper.customers.reachable import with_contacts
from linekeeper.incidents.announce import said_about
from linekeeper.outbox.mail_order import mail_ordering_key
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.reconnect.remind import next_working_moment
from linekeeper.runtime import Runtime
from linekeeper.store.modes import app_for
from linekeeper.store.tables import AuthenticationSetup, ConnectLink


async def ask(rt: Runtime, run_id: str, *, now: datetime) -> SetupStanding:
    """Ask the customer: by mail where customers are mailed; else operators pass the link on."""
    configuration = await rt.configuration()
    standing = await load_standing(rt, run_id, now=now)
    subject, link = standing.subject, standing.link
    assert link is not None  # it is made in the step before
    app = await rt.app(subject.app)
    customer_id = subject.customer_id
    async with rt.store.write() as session:
        row = await known(session, run_id)
        app = await app_for(
            session, app, connection_id=subject.connection_id, customer_id=customer_id
        )
        if row.asked_at is None:
            row.asked_at = now
            row.is_mailed = (
                customer_id is not None
                and configuration.mail is not None
                and app.notify_customers
                and bool(await with_contacts(session, [customer_id]))
            )
            await enqueue(rt.store, session, [_asking(row, subject, 0, now)], now=now)
    return await load_standing(rt, run_id, now=now)


def _asking(row: AuthenticationSetup, subject: SetupSubject, number: int, now: datetime) -> Message:
    """The mail to the customer, or the message to operators; `number` of a reminder, or 0. Pure."""
    if row.is_mailed:
        payload = {
            "do": "setup",
            "customer_id": subject.customer_id,
            "link_id": row.link_id,
            "reminder": number > 0,
        }
        key = f"email:setup:{row.link_id}:{number}"
        moment = next_working_moment(now, subject.time_zone)
        ordering_key = mail_ordering_key("setup", str(subject.customer_id))
        return Message("email", key, payload, ordering_key=ordering_key, not_before=moment)
    todo = (
        "still waits for its login: please remind the customer" if number else "waits for a login"
    )
    text = f"{subject.label} {todo}. The link to pass on is in the artifact `{artifact_of(row)}`."
    about: dict[str, Any] = {"do": "say", "subject": f"setup:{row.id}", "text": text}
    about |= {"page": artifact_of(row)}
    about |= said_about("login", customer_id=subject.customer_id)
    return Message("slack", f"slack:say:setup:{row.link_id}:{number}", about, kind="say")


def artifact_of(row: AuthenticationSetup) -> str:
    """The key of the artifact with the link. Pure."""
    return f"connect-link-{row.id}"


async def url_of(rt: Runtime, link: ConnectLink) -> str:
    """The customer's page of a link."""
    return link_url(await load_signer(rt.store), rt.settings.resolved_public_url, link.id)


async def remind(
    rt: Runtime, run_id: str, subject: SetupSubject, number: int, *, now: datetime
) -> None:
    """Remind the customer, or operators, for the `number`th time; once."""
    async with rt.store.write() as session:
        row = await known(session, run_id)
        if row.reminded < number and row.ended_at is None:
            row.reminded = number
            await enqueue(rt.store, session, [_asking(row, subject, number, now)], now=now)
