"""A mail account with a password: it is sent encrypted, or not at all, and doctor says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from linekeeper.config import Configuration, MailConfig
from linekeeper.doctor.notices import examine_mail
from linekeeper.notify.smtp import Delayed, Letter, hand_over
from linekeeper.store import Store


@asynccontextmanager
async def plain_server() -> AsyncIterator[tuple[int, list[str]]]:
    """One that asks for a login and offers no STARTTLS, and the lines it is sent."""
    lines: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 plain\r\n")
        while line := (await reader.readline()).decode().strip():
            lines.append(line)
            if line.startswith("EHLO"):
                writer.write(b"250-plain\r\n250 AUTH PLAIN LOGIN\r\n")
            elif line.startswith("AUTH"):
                writer.write(b"235 welcome\r\n")
            elif line.startswith("QUIT"):
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 OK\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "0.0.0.0", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], lines


def account(host: str, port: int) -> MailConfig:
    return MailConfig(smtp_url=SecretStr(f"smtp://ops:s3cret@{host}:{port}"), sender="a@b.example")


async def test_a_password_is_not_sent_where_the_server_offers_no_encryption(store: Store) -> None:
    letter = Letter(["ann@acme.example"], "Please log in", "Your link", "<p>Your link</p>", "i.a")
    async with plain_server() as (port, lines):
        mail = account("0.0.0.0", port)  # not the loopback, and yet this machine
        with pytest.raises(Delayed, match="the password is not sent in plain text"):
            await hand_over(mail, letter, "outbox-7")
        [finding] = await examine_mail(store, Configuration(mail=mail), seconds=5)
        assert "the password is not sent in plain text" in finding.text
    assert {line.partition(" ")[0] for line in lines} <= {"EHLO", "QUIT"}


async def test_on_the_machine_itself_it_is(store: Store) -> None:
    async with plain_server() as (port, lines):
        [finding] = await examine_mail(
            store, Configuration(mail=account("127.0.0.1", port)), seconds=5
        )
    assert "takes us" in finding.text
    assert any(line.startswith("AUTH PLAIN") for line in lines)
