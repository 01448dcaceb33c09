"""The product's API, asked over HTTP with real keys, beside a real Makini."""

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.keys import KeyRefused, make_key, revoke_key
from linekeeper.clock import utcnow
from linekeeper.receiver import follow_ups
from linekeeper.store.tables import ApiKey, Audit, Connection, Credential, Lease, Observation

from .conftest import House


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(house: House) -> None:
    key = (await house.key())["Authorization"].removeprefix("Bearer ")
    assert re.fullmatch(r"[A-Za-z0-9_-]{40,}", key)
    [row] = await house.rows(ApiKey)
    assert key not in repr(row)
    assert key not in str(row.model_dump())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer lk_wrong"},
        {"Authorization": "Basic abc"},
        {"Authorization": f"Bearer {'x' * 5_000}"},
    ],
)
async def test_without_a_key_nothing_is_told(house: House, headers: dict[str, str]) -> None:
    [connection, *_] = await house.connections()
    for path in ("", f"/{connection.id}", f"/{connection.id}/token", "/nobody"):
        answer = await house.http.get(f"/api/connections{path}", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_does_what_its_scopes_say_until_it_is_revoked(house: House) -> None:
    headers = await house.key("connections:read")
    [connection, *_] = await house.connections()
    assert (await house.http.get("/api/connections", headers=headers)).status_code == 200
    refused = await house.http.get(f"/api/connections/{connection.id}/token", headers=headers)
    assert refused.status_code == 403
    assert "tokens:read" in refused.json()["error"]
    async with house.store.write() as session:
        await revoke_key(session, "product", by="tests", now=utcnow())
    assert (await house.http.get("/api/connections", headers=headers)).status_code == 401


async def test_a_name_that_is_taken_or_a_scope_nobody_knows_is_refused(house: House) -> None:
    await house.key()
    for name, scopes in (("product", []), ("other", ["everything"]), (" ", [])):
        with pytest.raises(KeyRefused):
            async with house.store.write() as session:
                await make_key(session, name, scopes, by="tests", now=utcnow())


async def test_connections_are_listed_and_found_by_id_and_by_makinis_key(house: House) -> None:
    headers = await house.key()
    listed = (await house.http.get("/api/connections", headers=headers)).json()["data"]
    assert len(listed) == 6
    [one, *_] = listed
    for name in (one["id"], one["makini_key"]):
        shown = (await house.http.get(f"/api/connections/{name}", headers=headers)).json()
        assert shown["settings"] == []
        assert (shown["id"], shown["health"], shown["incident"]) == (one["id"], "healthy", None)
    for name in ("nobody", "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"):
        missing = await house.http.get(f"/api/connections/{name}", headers=headers)
        assert missing.status_code == 404


async def test_the_token_works_at_makini_and_handing_it_out_is_audited(house: House) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    answer = await house.http.get(
        f"/api/connections/{connection.makini_key}/token", headers=headers
    )
    given = answer.json()
    assert set(given) == {"access_token", "expires_at"}
    assert answer.headers["cache-control"] == "no-store"
    bearer = {"Authorization": f"Bearer {given['access_token']}"}
    status = await house.makini.get("/api/integrations/current", headers=bearer)
    assert status.json()["data"]["id"] == connection.makini_key
    [audited] = await house.rows(Audit, col(Audit.action) == "token.handed_out")
    assert (audited.by, audited.subject) == ("key product", connection.id)
    assert given["access_token"] not in str(audited.model_dump())


async def test_tokens_asked_for_at_once_are_each_audited_in_few_transactions(house: House) -> None:
    headers = await house.key()
    connections = await house.connections()
    path = "/api/connections/{}/token"
    await house.http.get(path.format(connections[0].id), headers=headers)  # the key is in use now

    async def ask(number: int) -> tuple[str, str]:
        one = connections[number % len(connections)]
        wanted = one.id if number % 2 else one.makini_key
        answer = await house.http.get(path.format(wanted), headers=headers, timeout=60)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        return one.id, answer.json()["access_token"]

    given = await asyncio.gather(*(ask(number) for number in range(90)))
    assert len(set(given)) == len(connections)
    for connection in connections:
        alone = await house.http.get(path.format(connection.id) + "?x=1", headers=headers)
        assert (connection.id, alone.json()["access_token"]) in given
    audited = await house.rows(Audit, col(Audit.action) == "token.handed_out")
    assert len(audited) == 1 + 90 + len(connections)
    assert Counter(row.subject for row in audited)[connections[1].id] == 90 // 6 + 1
    assert {row.by for row in audited} == {"key product"}
    assert len({row.at for row in audited}) < 60
    async with house.store.write() as session:
        await revoke_key(session, "product", by="tests", now=utcnow())
    answer = await house.http.get(path.format(connections[0].id), headers=headers)
    assert answer.status_code == 401
    assert await house.rows(Audit, col(Audit.action) == "token.handed_out") == audited


async def test_a_minted_token_about_to_end_is_minted_again_for_the_product(house: House) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    path = f"/api/connections/{connection.id}/token"
    before = (await house.http.get(path, headers=headers)).json()["access_token"]
    async with house.store.write() as session:
        soon = utcnow() + timedelta(seconds=59)
        await session.execute(update(Credential).values(expires_at=soon))
    after = (await house.http.get(path, headers=headers)).json()["access_token"]
    assert before != after


async def test_many_who_ask_at_once_for_a_token_that_ends_get_one_new_token(house: House) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        await session.execute(update(Credential).values(expires_at=utcnow()))
    answers = await asyncio.gather(
        *(
            house.http.get(f"/api/connections/{connection.id}/token", headers=headers, timeout=30)
            for _ in range(4)
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["access_token"] for answer in answers}) == 1


async def test_while_a_login_is_broken_there_is_the_incident_and_no_token(house: House) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    answer = await house.http.get(f"/api/connections/{connection.id}/token", headers=headers)
    [incident] = await house.incidents()
    assert answer.status_code == 409
    assert answer.json()["incident"] == incident.id
    assert "access_token" not in answer.json()


async def test_makini_being_away_is_503_and_the_product_may_try_again(house: House) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        await session.execute(update(Credential).values(expires_at=utcnow()))
    await house.control("settings", token="500")
    house.fleet.world.tokens.access.clear()
    answer = await house.http.get(f"/api/connections/{connection.id}/token", headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_a_lease_that_is_lost_on_the_way_is_503_and_the_product_may_try_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    monkeypatch.setattr(sys.modules["linekeeper.tokens.renew"], "LEASE_SECONDS", 0.6)
    async with house.store.write() as session:
        await session.execute(update(Credential).values(expires_at=utcnow()))
    await house.control("settings", latency_ms=3_000)
    asking = asyncio.create_task(
        house.http.get(f"/api/connections/{connection.id}/token", headers=headers, timeout=30)
    )
    taken = update(Lease).where(col(Lease.name) == f"token:{connection.id}").values(owner="another")
    async with asyncio.timeout(30):
        while not asking.done():
            async with house.store.write() as session:
                await session.execute(taken)
            await asyncio.sleep(0.05)
    answer = asking.result()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_401_of_the_product_has_the_connection_looked_at_at_once(house: House) -> None:
    """Also where it was found well a moment ago."""
    headers = await house.key()
    await house.sweep()
    [connection, *_] = await house.connections()
    await house.control(f"connections/{connection.makini_key}/change-credentials")
    answer = await house.http.post(
        f"/api/connections/{connection.makini_key}/observations",
        headers=headers,
        json={"status": 401, "code": "AUTHENTICATION_FAILED", "request_id": "r-1"},
    )
    assert answer.status_code == 202
    for _ in range(100):
        if (await house.connection(connection.id)).health == "reauthorization_required":
            break
        await asyncio.sleep(0.05)
    [incident] = await house.incidents()
    assert incident.kind == "reauthorization_required"
    [seen] = await house.rows(Observation, col(Observation.source) == "product")
    assert (seen.outcome, seen.code, seen.request_id) == (
        "reported_401",
        "AUTHENTICATION_FAILED",
        "r-1",
    )


async def test_a_401_that_comes_soon_after_another_is_looked_at_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked before a report says nothing about it."""
    monkeypatch.setattr(follow_ups, "APART", timedelta(milliseconds=50))
    headers = await house.key()
    [connection, *_] = await house.connections()
    address = f"/api/connections/{connection.id}"
    seen = {(await house.http.get(f"{address}/token", headers=headers)).json()["access_token"]}
    for _ in range(3):
        await house.control(f"connections/{connection.makini_key}/expire-token")
        await house.http.post(f"{address}/observations", headers=headers, json={"status": 401})
        async with asyncio.timeout(30):
            while True:
                token = (await house.http.get(f"{address}/token", headers=headers)).json()
                is_suspect = (await house.connection(connection.id)).suspect
                if token["access_token"] not in seen and not is_suspect:
                    break
                await asyncio.sleep(0.02)
        seen.add(token["access_token"])
    assert (await house.connection(connection.id)).health == "healthy"


async def test_a_401_with_an_old_token_makes_no_incident(house: House) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    answer = await house.http.post(
        f"/api/connections/{connection.id}/observations", headers=headers, json={"status": 401}
    )
    assert answer.status_code == 202
    await house.sweep()
    assert (await house.connection(connection.id)).health == "healthy"
    assert await house.incidents() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"status":"401"}', b'{"status":true}', b'{"status":401,"at":"soon"}'],
)
async def test_a_report_that_makes_no_sense_is_422(house: House, body: bytes) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    answer = await house.http.post(
        f"/api/connections/{connection.id}/observations", headers=headers, content=body
    )
    assert answer.status_code == 422
    assert await house.rows(Observation, col(Observation.source) == "product") == []


async def test_a_report_that_is_too_long_is_413(house: House) -> None:
    headers = await house.key()
    [connection, *_] = await house.connections()
    answer = await house.http.post(
        f"/api/connections/{connection.id}/observations", headers=headers, content=b" " * 20_000
    )
    assert answer.status_code == 413


async def test_in_observe_a_token_that_ended_is_not_renewed(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    house = await open_house(makini_mode="observe")
    headers = await house.key()
    [connection, *_] = await house.connections()
    answer: httpx.Response = await house.http.get(
        f"/api/connections/{connection.id}/token", headers=headers
    )
    assert answer.status_code == 409
    calls = await house.makini.get("/_control/calls")
    assert calls.json()["writes"] == 0


@pytest.mark.parametrize("key", ["k/ey %ü", "a/token", "..", "%2F", "1+1=2&?#;"])
async def test_a_key_is_an_opaque_string_percent_encoded_on_every_route(
    house: House, key: str
) -> None:
    """MAKINI: “`key` is an opaque string”; an encoded slash belongs to it."""
    headers = await house.key()
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(makini_key=key)
        )
    path = f"/api/connections/{quote(key, safe='').replace('.', '%2E')}"
    shown = await house.http.get(path, headers=headers)
    assert (shown.status_code, shown.json().get("id")) == (200, connection.id)
    given = await house.http.get(f"{path}/token", headers=headers)
    assert given.status_code == 200
    reported = await house.http.post(f"{path}/observations", headers=headers, json={"status": 200})
    assert reported.status_code == 202
    asked = {"mode": "observe", "dry_run": True}
    previewed = await house.http.post(f"{path}/mode", headers=headers, json=asked)
    assert (previewed.status_code, previewed.json()["connection"]) == (200, connection.id)
    for wrong in (f"{path}%2Ftoken", f"{path}/nothing", "/api/connections%2Fx", path + "/"):
        assert (await house.http.get(wrong, headers=headers)).status_code == 404, wrong
    assert (await house.http.post(path, headers=headers)).status_code == 405
