"""A login whose pair is good, and a Makini that stumbles behind it: the pair is never lost."""

import pytest
from sqlmodel import col

from linekeeper.store.tables import Audit, Connection, ConnectLink, IncidentEntry
from tests.receiver.test_connect import authorize_link, link_for, log_in, through, token_of
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def sync_status(house: House, connection: Connection) -> str:
    """What Makini says to the token that is stored."""
    bearer = {"Authorization": f"Bearer {await token_of(house, connection)}"}
    answer = await house.makini.get("/api/integrations/current", headers=bearer)
    assert answer.status_code == 200
    return str(answer.json()["data"]["sync_status"])


@pytest.mark.parametrize("fault", ["500", "429-bare", "html"])
async def test_a_login_renewed_while_the_list_is_away_is_kept(house: House, fault: str) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control("settings", admin_list=fault)
    assert (await house.http.get(location, timeout=30)).status_code == 200
    await house.control("settings", admin_list="")
    assert await sync_status(house, connection) == "done"
    [link] = await house.rows(ConnectLink)
    assert link.used_for == connection.id
    kept = await house.connection(connection.id)
    assert (kept.name, kept.tags, kept.provider) == (
        connection.name,
        connection.tags,
        connection.provider,
    )
    await house.sweep()
    assert len(await house.connections()) == 6


async def test_the_list_is_asked_again_where_makini_stumbles(house: House) -> None:
    _, path = await link_for(house, None, system="Fiix")
    location = await log_in(house, await authorize_link(house, path), "new:fiix")
    await house.control("settings", admin_list="500")
    before = house.fleet.world.calls["GET", "/api/system/connections"]
    assert (await house.http.get(location, timeout=30)).status_code == 200
    assert house.fleet.world.calls["GET", "/api/system/connections"] == before + 3
    await house.control("settings", admin_list="")
    for _ in range(2):
        await house.sweep()
    [link] = await house.rows(ConnectLink)
    made = await house.connection(str(link.used_for))
    assert (made.health, made.setup) == ("healthy", "live")
    assert len(await house.connections()) == 7


async def test_another_system_is_told_while_the_list_is_away_and_keeps_its_pair(
    house: House,
) -> None:
    connection, other, *_ = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), other.makini_key)
    await house.control("settings", admin_list="500")
    assert (await house.http.get(location, timeout=30)).status_code == 409
    assert await sync_status(house, other) == "done"


async def test_whose_login_it_is_cannot_be_told_without_the_list_is_said_and_the_link_still_works(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), "new:fiix")
    await house.control("settings", admin_list="500")
    assert (await house.http.get(location, timeout=30)).status_code == 502
    assert [row.action for row in await house.rows(Audit)] == ["login.away"]
    await house.control("settings", admin_list="")
    assert (await through(house, path, connection.makini_key)).status_code == 200


@pytest.mark.parametrize("fault", ["500", "html", "truncated", "empty"])
async def test_whoever_logs_in_is_not_blamed_for_an_answer_of_makinis_that_says_nothing(
    house: House, fault: str
) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control("settings", token=fault)
    answer = await house.http.get(location, timeout=30)
    assert answer.status_code == 502
    assert "Makini is not available" in answer.text
    assert [row.action for row in await house.rows(Audit)] == ["login.away"]
    await house.control("settings", token="")
    assert (await through(house, path, connection.makini_key)).status_code == 200


async def test_a_system_that_does_not_answer_is_named_and_makini_is_not_blamed(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control(f"connections/{connection.makini_key}/go-offline")
    answer = await house.http.get(location, timeout=30)
    assert answer.status_code == 502
    assert "does not answer" in answer.text
    assert "Makini is not available" not in answer.text
    [row] = await house.rows(Audit)
    assert row.action == "login.system_away"
    assert "does not answer Makini (code SYSTEM_UNAVAILABLE, request id" in row.detail["text"]
    assert "app default" not in row.detail["text"]


async def test_a_login_that_makini_still_calls_failed_is_kept_and_the_next_probe_decides(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control(f"connections/{connection.makini_key}/change-credentials")
    answer = await house.http.get(location)
    assert answer.status_code == 502
    assert "not verified yet" in answer.text
    assert path in answer.text
    assert await sync_status(house, connection) == "fail"
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    assert await house.rows(ConnectLink, col(ConnectLink.used_at).is_not(None)) == []
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    await house.sweep()
    assert (await house.connection(connection.id)).health == "healthy"
    assert [incident.status for incident in await house.incidents()] == ["resolved"]


async def test_that_a_customer_gave_up_is_said_in_the_incident_and_the_link_still_works(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    [incident] = await house.incidents()
    _, path = await link_for(house, connection, incident_id=incident.id)
    href = await authorize_link(house, path)
    denied = await log_in(house, href, connection.makini_key, answer="deny")
    assert (await house.http.get(denied)).status_code == 400
    said = col(IncidentEntry.text).contains("somebody tried to log in, and it did not work")
    [entry] = await house.rows(IncidentEntry, said)
    assert entry.incident_id == incident.id
    assert [row.action for row in await house.rows(Audit)][-1] == "login.denied"
    assert (await through(house, path, connection.makini_key)).status_code == 200
