"""A real SMTP server that keeps what it is sent, and refuses what it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import SecretStr


def text_of(mail: EmailMessage) -> str:
    """What its plain part says."""
    part = mail.get_body(("plain",))
    assert part is not None, "a mail without a text part"
    return str(part.get_content())


class Post:
    """Its mails; `answer` is what it says to one, `refuse` a part of addresses it doesn't know."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 OK"
        self.refuse: str | None = None
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

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            parsed = message_from_bytes(content, policy=policy.default)
            assert isinstance(parsed, EmailMessage)
            self.mails.append(parsed)
        return self.answer


@asynccontextmanager
async def listening(port: int = 0) -> AsyncIterator[Post]:
    """A server at `port` of this machine, or at a free one."""
    post = Post()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(post), "127.0.0.1", port)
    async with server:
        post.port = server.sockets[0].getsockname()[1]
        yield post
