"""Handing one mail to the mail server: to whom it takes one, and what its answers mean."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.headerregistry import Address, BaseHeader, HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.policy import default
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import aiosmtplib
import idna

from linekeeper.clock import utcnow
from linekeeper.config import MailConfig
from linekeeper.config.base import require_sender
from linekeeper.text import shown
from linekeeper.tls import is_loopback, tls_trouble

TIMEOUT_SECONDS = 20.0
_UNENCRYPTED = (
    "it offers no encryption (STARTTLS), and the password is not sent in plain text: use smtps://, "
    "or a server that offers it"
)


class _References(BaseHeader):
    """The mails a mail belongs to. As plain text a long one would be encoded, which no mail program
    decodes there."""

    max_count = 1

    @staticmethod
    def parse(value: str, kwds: dict[str, Any]) -> None:
        """Read it as what a Message-ID is, which is never encoded."""
        MessageIDHeader.parse(value, kwds)


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("references", _References)
_HEADERS.map_to_type("in-reply-to", _References)
_POLICY = default.clone(header_factory=_HEADERS)


class MailRefused(Exception):
    """The mail server will never take this mail; the message says why."""


class Delayed(Exception):
    """The mail server does not take it now; the message says why."""

    def __init__(self, reason: str, *, everything: bool) -> None:
        super().__init__(reason)
        self.everything = everything
        """Whether other mails would fare no better."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail ready to go."""

    recipients: Sequence[str]
    subject: str
    body: str
    html: str
    thread: str
    """The same for all mails to one customer about one incident."""
    answers: tuple[str, str] | None = None
    """The mail it follows, by its identifier, and the thread of that one."""


def server_of(mail: MailConfig) -> dict[str, Any]:
    """The account in the form that aiosmtplib takes.

    A password leaves this machine encrypted or not at all.
    """
    server = urlsplit(mail.smtp_url.get_secret_value())
    must_encrypt = server.scheme == "smtp" and bool(server.username)
    return {
        "hostname": server.hostname or "localhost",
        "port": server.port,
        "username": unquote(server.username) if server.username else None,
        "password": unquote(server.password) if server.password else None,
        "use_tls": server.scheme == "smtps",
        "start_tls": True if must_encrypt and not is_loopback(server.hostname or "") else None,
        "timeout": TIMEOUT_SECONDS,
    }


def sender_of(mail: MailConfig) -> Address:
    """Whom mails are from, by name and address. Raises `ValueError` where there is no address."""
    try:
        name, address = require_sender(mail.sender)
    except ValueError as error:
        raise ValueError(f"the sender is no address: {shown(mail.sender)!r}; {error}") from None
    local, _, domain = on_the_wire(address).rpartition("@")
    return Address(shown(name).strip('"'), local, domain)


def mail_trouble(error: BaseException) -> str | None:
    """Say why the server can't be used safely; None if it is another failure."""
    if type(error) is aiosmtplib.SMTPException and "STARTTLS extension" in str(error):
        return _UNENCRYPTED  # the library has no type for it; it only chooses these words
    return tls_trouble(error)


def on_the_wire(address: str) -> str:
    """`address` with its domain as mail servers know it, in ASCII (IDNA 2008); itself if none."""
    local, at, domain = address.rpartition("@")
    if not domain.isascii():
        with suppress(idna.IDNAError):
            domain = idna.encode(domain, uts46=True).decode("ascii")
    return local + at + domain


async def hand_over(mail: MailConfig, letter: Letter, identifier: str) -> list[str]:
    """Hand the letter over; returns the recipients the server refused or can't be asked for.

    Raises `MailRefused` and `Delayed`. What the server says of this mail's content concerns this
    mail only; what it says of us, or doesn't say at all, concerns every mail.
    """
    known = {on_the_wire(recipient): recipient for recipient in letter.recipients}
    try:
        sender = sender_of(mail)
    except ValueError as error:
        raise Delayed(str(error), everything=True) from None
    try:
        async with aiosmtplib.SMTP(**server_of(mail)) as server:
            taken = [
                address for address in known if address.isascii() or await _takes_letters(server)
            ]
            if not taken:
                raise MailRefused("the mail server takes no address with other letters than ASCII")
            message = _message(sender, letter, identifier, taken)
            problems, _ = await server.send_message(message, recipients=taken)
    except aiosmtplib.SMTPRecipientsRefused as error:
        codes = [smtprecipient_refused.code for smtprecipient_refused in error.recipients]
        if codes and all(code >= 500 for code in codes):
            raise MailRefused(f"the mail server refused every recipient ({codes[0]})") from None
        reason = "the mail server takes no mail for these recipients now"
        raise Delayed(reason, everything=False) from None
    except aiosmtplib.SMTPDataError as error:
        if error.code >= 500:
            raise MailRefused(f"the mail server refused the mail ({error.code})") from None
        raise Delayed(f"the mail server answered {error.code}", everything=True) from None
    except aiosmtplib.SMTPResponseException as error:
        raise Delayed(f"the mail server answered {error.code}", everything=True) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        why = mail_trouble(error) or type(error).__name__
        reason = f"the mail server can't be used ({why})"
        raise Delayed(reason, everything=True) from None
    return sorted(
        known[address] for address in known if address in problems or address not in taken
    )


async def _takes_letters(server: aiosmtplib.SMTP) -> bool:
    """Whether it takes addresses with any letters before the @ (SMTPUTF8, RFC 6531)."""
    if server.is_ehlo_or_helo_needed:
        with suppress(aiosmtplib.SMTPHeloError):  # an old one: it takes nothing but ASCII
            await server.ehlo()
    return server.supports_extension("smtputf8")


def _message(
    sender: Address, letter: Letter, identifier: str, recipients: Sequence[str]
) -> EmailMessage:
    message = EmailMessage(_POLICY)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(utcnow())
    domain = sender.domain
    message["Message-ID"] = f"<{identifier}@{domain}>"
    before, thread = letter.answers or ("", "")
    references = [thread, before, letter.thread]  # by which mail programs make a thread
    message["References"] = " ".join(f"<{each}@{domain}>" for each in references if each)
    if before:
        message["In-Reply-To"] = f"<{before}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.body)
    message.add_alternative(letter.html, subtype="html")
    return message
