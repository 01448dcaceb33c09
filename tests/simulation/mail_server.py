"""The model mail server: it takes mails under aiosmtplib's client, and remembers each."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from random import Random
from typing import Any, Self

import aiosmtplib


@dataclass(frozen=True)
class Mail:
    """One mail that was taken."""

    at: datetime
    identity: str
    recipients: tuple[str, ...]
    subject: str
    text: str
    whole: str
    """Its headers and all its parts, the one in HTML as well."""

    @property
    def is_about_an_end(self) -> bool:
        """Whether it says that a login ends, which works as yet."""
        return "renew the login" in self.subject

    @property
    def asks_for_a_login(self) -> bool:
        """Whether it asks its customer to log in, as the login is lost."""
        return "/connect/" in self.text and not self.is_about_an_end


class MailServer:
    """Takes every mail; `down` takes none, and sometimes the answer is lost after one was taken."""

    def __init__(self, now: Callable[[], datetime], rng: Random) -> None:
        self._now = now
        self._rng = rng
        self.down = False
        self.loses = 0.0
        """The share of mails of which the sender hears nothing."""
        self.taken: list[Mail] = []

    def client(self, **_: Any) -> "Client":
        """What stands in the place of `aiosmtplib.SMTP`."""
        return Client(self)

    async def take(self, message: EmailMessage, recipients: Sequence[str]) -> None:
        """One mail. Raises what aiosmtplib raises."""
        await asyncio.sleep(self._rng.uniform(0.01, 0.3))
        if self.down:
            raise aiosmtplib.SMTPServerDisconnected("connection lost")
        body = message.get_body(("plain",))
        text = body.get_content() if body is not None else ""
        self.taken.append(
            Mail(
                self._now(), str(message["Message-ID"]), tuple(recipients),
                str(message["Subject"]), text, _whole(message),
            )
        )  # fmt: skip
        if self._rng.random() < self.loses:
            raise aiosmtplib.SMTPServerDisconnected("connection lost")


def _whole(message: EmailMessage) -> str:
    heads = [f"{name}: {value}" for name, value in message.items()]
    parts = [part.get_content() for part in message.walk() if not part.is_multipart()]
    return "\n".join([*heads, *map(str, parts)])


class Client:
    """One conversation with the server."""

    is_ehlo_or_helo_needed = False

    def __init__(self, server: MailServer) -> None:
        self._server = server

    async def __aenter__(self) -> Self:
        await asyncio.sleep(0.01)
        if self._server.down:
            raise aiosmtplib.SMTPConnectError("connection refused")
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is nothing to end."""

    def supports_extension(self, _: str) -> bool:
        """It takes any letters."""
        return True

    async def send_message(
        self, message: EmailMessage, *, recipients: Sequence[str]
    ) -> tuple[dict[str, Any], str]:
        """Hand a mail over; every recipient is taken."""
        await self._server.take(message, recipients)
        return {}, "OK"
