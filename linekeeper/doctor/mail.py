"""Mail to customers: whether the server takes us, and what it did not take. Nothing is sent."""

import asyncio
from datetime import timedelta

import aiosmtplib
from sqlalchemy import func
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.config import Configuration, MailConfig
from linekeeper.doctor.finding import Finding, named, ok, warn, wrong
from linekeeper.notify.smtp import server_of
from linekeeper.store import Store
from linekeeper.store.tables import Outbox

_LATELY = timedelta(days=7)
_BLOCK = "correct it in the Mail block"


async def examine_mail(
    store: Store, configuration: Configuration, *, seconds: float
) -> list[Finding]:
    """What is to be said about mail; nothing where nobody is to be mailed."""
    mail = configuration.mail
    apps = sorted(name for name, app in configuration.apps.items() if app.notify_customers)
    if mail is None:
        text = f"no account, but customers of {named(apps)} are to be told"
        mend = "fill in a Mail block, or set LINEKEEPER_SMTP_URL and _MAIL_FROM"
        return [wrong("mail", text, mend)] if apps else []
    return [await _account(mail, seconds), *await _untaken(store)]


async def _account(mail: MailConfig, seconds: float) -> Finding:
    server = server_of(mail)
    where = f"{server['hostname']}:{server['port'] or 'its usual port'}"
    smtp = aiosmtplib.SMTP(**{**server, "timeout": seconds})
    try:
        async with asyncio.timeout(seconds), smtp:  # it logs in where there is a login
            pass
    except aiosmtplib.SMTPAuthenticationError as error:
        return wrong("mail · account", f"{where} refuses the login ({error.code})", _BLOCK)
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        why = str(error)[:200] or type(error).__name__
        mend = "check the network, and the SMTP URL in the Mail block"
        return wrong("mail · account", f"{where} can't be used: {why}", mend)
    return ok("mail · account", f"{where} takes us")


async def _untaken(store: Store) -> list[Finding]:
    """Mails that wait for a further try, and those given up."""
    async with store.read() as session:
        rows = await session.execute(
            select(col(Outbox.status), func.count(), func.max(col(Outbox.error)))
            .where(
                col(Outbox.channel) == "email",
                col(Outbox.status).in_(["pending", "dead"]),
                col(Outbox.error).is_not(None),
                col(Outbox.created_at) > utcnow() - _LATELY,
            )
            .group_by(col(Outbox.status))
        )
        found = {row[0]: (row[1], row[2]) for row in rows}
    findings = []
    if "pending" in found:
        count, why = found["pending"]
        text = f"{count} not taken yet: {why}"
        findings.append(warn("mail · waiting", text, "they are tried again for 3 days"))
    if "dead" in found:
        count, why = found["dead"]
        text = f"{count} in {_LATELY.days} days: {why}"
        mend = "the incident's thread names the customer: correct the contact, then reconnect again"
        findings.append(warn("mail · given up", text, mend))
    return findings
