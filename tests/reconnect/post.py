"""A real SMTP server that keeps what it is sent, and refuses what it is told to."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import SecretStr


def text_of(mail: EmailMessage) -> str:
    """What its plain part says."""
    part = mail.get_body(("plain",))
    assert part is not None, "a mail without a text part"
    return str(part.get_content())


class Post:
    """Its mails; `answer` is what it says to one, `refuse` a part of addresses it doesn't know.

    `drops` ends the connection without an answer, before or after it has kept the mail.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.senders: list[str | None] = []
        """Whom the mails were handed over for (`MAIL FROM`)."""
        self.answer = "250 OK"
        self.refuse: str | None = None
        self.drops: Literal["before", "after"] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def secret(self) -> SecretStr:
        """The same, as the settings take it."""
        return SecretStr(self.url)

    async def first(self) -> EmailMessage | None:
        return self.mails[0] if self.mails else None

    async def with_subject(self, text: str) -> EmailMessage | None:
        return next((mail for mail in self.mails if text in mail["Subject"]), None)

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if self.refuse is not None and self.refuse in address:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.drops is not None and server.transport is not None:
            server.transport.abort()
        if self.drops == "before":
            return "421 too late"
        if self.answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            parsed = message_from_bytes(content, policy=policy.default)
            assert isinstance(parsed, EmailMessage)
            self.mails.append(parsed)
            self.raw.append(content)
            self.senders.append(envelope.mail_from)
        return self.answer


@asynccontextmanager
async def listening(
    port: int = 0,
    *,
    account: tuple[str, str] | None = None,
    letters: bool = False,
    post: Post | None = None,
) -> AsyncIterator[Post]:
    """A server at `port` of this machine, or at a free one; it wants an `account` if given one.

    `letters`: it takes addresses with any letters (SMTPUTF8). `post`: it takes the mails.
    """
    post = post or Post()
    loop = asyncio.get_running_loop()

    def takes(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, who: Any) -> Any:
        wanted = account and LoginPassword(*(part.encode() for part in account))
        return AuthResult(success=who == wanted, handled=False)

    def serve() -> SMTP:
        if account is None:
            return SMTP(post, enable_SMTPUTF8=letters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a password without TLS: on loopback
            return SMTP(post, authenticator=takes, auth_required=True, auth_require_tls=False)

    server = await loop.create_server(serve, "127.0.0.1", port)
    async with server:
        post.port = server.sockets[0].getsockname()[1]
        yield post
