"""Whether people can be notified: the mail account, and what the alert policy says."""

import asyncio
from datetime import timedelta

import aiosmtplib
from sqlalchemy import func
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.config import Configuration, MailConfig
from linekeeper.doctor.finding import DoctorFinding, ok, warn, wrong
from linekeeper.notify.channels import SOCKET, known_as, troubles
from linekeeper.notify.evaluate import targets
from linekeeper.notify.policy import check
from linekeeper.notify.routing import channels_of
from linekeeper.notify.smtp import mail_trouble, sender_of, server_of
from linekeeper.outbox.senders.apprise import can_read
from linekeeper.store import Store
from linekeeper.store.tables import Outbox
from linekeeper.text import named

_LATELY = timedelta(days=7)
_MAIL_BLOCK = "correct it in the Mail block"


async def examine_mail(
    store: Store, configuration: Configuration, *, seconds: float
) -> list[DoctorFinding]:
    """What is to be said about mail; nothing where nobody is to be mailed."""
    mail = configuration.mail
    apps = sorted(name for name, app in configuration.apps.items() if app.notify_customers)
    if mail is None:
        text = f"no account, but customers of {named(apps)} are to be notified"
        fix = "fill in a Mail block, or set LINEKEEPER_SMTP_URL and _MAIL_FROM"
        return [wrong("mail", text, fix)] if apps else []
    return [await _account(mail, seconds), *await _untaken(store)]


async def _account(mail: MailConfig, seconds: float) -> DoctorFinding:
    try:
        sender_of(mail)
    except ValueError as error:
        return wrong("mail · sender", str(error), _MAIL_BLOCK)
    server = server_of(mail)
    where = f"{server['hostname']}:{server['port'] or 'its usual port'}"
    smtp = aiosmtplib.SMTP(**{**server, "timeout": seconds})
    try:
        async with asyncio.timeout(seconds), smtp:  # it logs in where there is a login
            pass
    except aiosmtplib.SMTPAuthenticationError as error:
        return wrong("mail · account", f"{where} refuses the login ({error.code})", _MAIL_BLOCK)
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        why = mail_trouble(error) or str(error)[:200] or type(error).__name__
        fix = "check the network, and the SMTP URL in the Mail block"
        return wrong("mail · account", f"{where} can't be used: {why}", fix)
    return ok("mail · account", f"{where} takes us")


async def _untaken(store: Store) -> list[DoctorFinding]:
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
        waiting = {row[0]: (row[1], row[2]) for row in rows}
    findings = []
    if "pending" in waiting:
        count, why = waiting["pending"]
        text = f"{count} not taken yet: {why}"
        findings.append(warn("mail · waiting", text, "they are tried again for 3 days"))
    if "dead" in waiting:
        count, why = waiting["dead"]
        text = f"{count} in {_LATELY.days} days: {why}"
        fix = "the incident's thread names the customer: correct the contact, then reconnect again"
        findings.append(warn("mail · given up", text, fix))
    return findings


_BLOCK = "correct it in the AlertPolicy block"
_CHANNELS_BLOCK = "do so, or name another channel in its block; then it is tried again by itself"


async def examine_alerts(store: Store, configuration: Configuration) -> list[DoctorFinding]:
    """How people are notified of incidents, and what is wrong with it. Nothing is sent."""
    policy = configuration.alerts
    try:
        check(policy)
    except ValueError as error:
        return [wrong("alerts · policy", str(error), _BLOCK)]
    findings = [
        await asyncio.to_thread(readable, url) for url in targets(policy.elsewhere).values()
    ]
    names = _in_use(configuration)
    for notice_channel in [each for each in await troubles(store) if each.channel in names]:
        since = f"takes nothing since {notice_channel.since:%Y-%m-%d %H:%M} UTC"
        name, text = f"alerts · {notice_channel.channel}", f"{since}: {notice_channel.trouble}"
        if notice_channel.needs_fix:
            findings.append(wrong(name, text, _CHANNELS_BLOCK))
        else:
            findings.append(warn(name, text, "it is tried again by itself"))
    if not channels_of(configuration) and not policy.elsewhere:
        text = "nobody is notified of incidents: neither Slack nor another channel is filled in"
        findings.append(warn("alerts", text, "fill in a SlackChannel or an AlertPolicy block"))
    to_fix = [finding for finding in findings if finding.fix] or [
        ok("alerts", _where_to(configuration))
    ]
    if SOCKET in names and not any(each.name == f"alerts · {SOCKET}" for each in findings):
        to_fix.append(ok(f"alerts · {SOCKET}", "connected, as far as the consumer reports"))
    return to_fix


def _in_use(configuration: Configuration) -> set[str]:
    """What the trouble of each channel is kept under that the settings name."""
    slack = channels_of(configuration)
    urls = targets(configuration.alerts.elsewhere)
    names = {*map(known_as, slack), *(f"elsewhere {target}" for target in urls)}
    uses_socket = any(each.app_token.get_secret_value().strip() for each in slack.values())
    return names | ({SOCKET} if uses_socket else set())


def readable(url: str) -> DoctorFinding:
    """Whether Apprise knows what the fallback channel `url` is; without what is secret in it."""
    scheme = url.partition("://")[0][:20]
    name = f"alerts · fallback channel {scheme}"
    if can_read(url):
        return ok(name, "Apprise can read the URL")
    return wrong(name, f"Apprise can't read the URL {scheme}://…", _BLOCK)


def _where_to(configuration: Configuration) -> str:
    policy, slack = configuration.alerts, channels_of(configuration)
    others = len(policy.elsewhere)
    destinations = [
        *(["Slack"] if len(slack) == 1 else []),
        *([f"{len(slack)} Slack channels"] if len(slack) > 1 else []),
        *([f"{others} other {'channel' if others == 1 else 'channels'}"] if others else []),
    ]
    quiet = " and ".join(filter(None, (policy.quiet_hours, policy.quiet_days)))
    hours = f"quiet hours {quiet} ({policy.time_zone})" if quiet else "no quiet hours"
    return f"incidents go to {' and '.join(destinations)}; {hours}"
