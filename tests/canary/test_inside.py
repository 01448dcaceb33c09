"""The canary from inside: a fault on the way is an incident that says which, until it is over."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from linekeeper.canary.inside import fly_regularly
from linekeeper.clock import utcnow
from linekeeper.outbox.forward import REFUSED_SECONDS
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Incident, Outbox
from linekeeper.sweep.forwards import REFUSED_TIMES
from linekeeper.sweep.webhooks import watch_stream
from tests.canary.test_canary import consuming, here, product
from tests.canary.test_canary_way import answering, certificate
from tests.receiver.conftest import Here
from tests.receiver.processes import free_port

__all__ = ["here"]  # a fixture


@asynccontextmanager
async def house(here: Here, url: str, minutes: float = 1e-6) -> AsyncIterator[Runtime]:
    """A consumer's runtime, the public address being `url`; it may fly again at once."""
    changes = {"public_url": url, "canary_minutes": minutes}
    async with Runtime.open(here.rt.settings.model_copy(update=changes)) as rt:
        yield rt


async def open_incidents(here: Here) -> list[tuple[str, str, str]]:
    async with here.rt.store.read() as session:
        rows = await session.scalars(select(Incident).order_by(Incident.app))
        return [(row.app, row.kind, row.summary) for row in rows if row.resolved_at is None]


async def refused(here: Here) -> None:
    """Until the product has refused what was handed to it as often as it takes to be told."""
    async with asyncio.timeout(120):
        while True:
            async with here.rt.store.read() as session:
                rows = await session.scalars(select(Outbox))
                if any(row.refusal and row.attempts >= REFUSED_TIMES for row in rows):
                    return
            await asyncio.sleep(0.05)


async def fly(rt: Runtime) -> None:
    await fly_regularly(rt, again=0.01)


async def test_a_canary_that_comes_through_causes_nothing_and_ends_what_was_open(
    here: Here,
) -> None:
    async with house(here, f"http://127.0.0.1:{free_port()}") as rt:
        await fly(rt)
    found = await open_incidents(here)
    assert [app for app, _, _ in found] == ["default", "standard"]  # `bare` has no secret
    assert all(kind == "canary_lost" and "(refused)" in text for _, kind, text in found)
    async with house(here, here.url) as rt, consuming(here):
        rt.owner = "another consumer"
        await fly(rt)
    assert await open_incidents(here) == []
    assert {event.kind for event in await here.events()} == {"canary"}


async def test_without_a_public_address_and_where_it_is_off_nothing_is_sent(here: Here) -> None:
    await fly(here.rt)
    async with house(here, here.url, minutes=0) as rt:
        await fly(rt)
    assert await here.events() == []


async def test_of_several_consumers_one_flies(here: Here) -> None:
    async with (
        house(here, here.url, 5) as runtime,
        house(here, here.url, 5) as other,
        consuming(here),
    ):
        await fly(runtime)
        sent = len(await here.events())
        other.owner = "another consumer"
        await fly(other)
    assert sent == 2
    assert len(await here.events()) == sent


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (None, "no_answer"),
        (b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n", "proxy"),
        (b"HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n", "proxy"),
        (b"HTTP/1.1 302 X\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", "redirect"),
    ],
)
async def test_a_proxy_in_the_way_is_told_apart(
    here: Here, fault: bytes | None, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.canary.inside.TIMEOUT_SECONDS", 0.5)
    async with answering(fault) as url, house(here, url) as rt:
        await fly(rt)
    assert [f"({what})" in text for _, _, text in await open_incidents(here)] == [True, True]


async def test_dns_and_certificate_are_told_apart(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.canary.inside.TRIES", 1)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate(tmp_path, "localhost", days=-1))
    async with answering(b"", tls) as plain:
        addresses = {
            "dns": "https://linekeeper.invalid",
            "certificate": plain.replace("http://127.0.0.1", "https://localhost"),
        }
        for what, url in addresses.items():
            async with house(here, url) as rt:
                await fly(rt)
            assert f"({what})" in (await open_incidents(here))[0][2]


async def test_a_product_that_refuses_the_canary_is_one_incident_which_is_about_the_product(
    here: Here,
) -> None:
    async with product(here, status=403), consuming(here), house(here, here.url) as rt:
        await fly(rt)
        await refused(here)
        await watch_stream(rt, utcnow() + timedelta(seconds=2 * REFUSED_SECONDS))
    [(app, kind, text)] = await open_incidents(here)
    assert (app, kind) == ("default", "forward_refused")
    assert text.startswith("1 message refused by the product")


async def test_a_canary_that_is_not_processed_is_said_by_the_stream_alone(here: Here) -> None:
    async with house(here, here.url) as rt:
        await fly(rt)
        await watch_stream(rt, utcnow() + timedelta(seconds=400))
    assert {kind for _, kind, _ in await open_incidents(here)} == {"webhooks_behind"}


async def test_an_address_that_leads_to_another_linekeeper_is_told_apart(
    here: Here, settings: Settings
) -> None:
    body = b'{"status":"accepted","id":"019ac000-0000-7000-8000-000000000000"}'
    other = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    async with answering(other) as url, house(here, url) as rt:
        await fly(rt)
    assert "another Linekeeper" in (await open_incidents(here))[0][2]
