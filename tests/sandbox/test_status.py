"""What the status of a connection says in each of its troubles."""

from __future__ import annotations

import pytest

from .conftest import Box


async def test_a_healthy_connection_says_done(box: Box) -> None:
    key = (await box.keys())[0]
    answer = await box.status(key)
    assert answer.status_code == 200
    assert answer.headers["X-Request-Id"]
    assert answer.json()["data"].keys() == {
        "id",
        "company_name",
        "email",
        "provider",
        "updated_at",
        "sync_status",
        "sync_updated_at",
    }
    assert answer.json()["data"]["sync_status"] == "done"


async def test_changed_credentials_say_fail_and_data_calls_are_refused(box: Box) -> None:
    key = (await box.keys())[0]
    await box.act(key, "change-credentials")
    answer = await box.status(key)
    assert (answer.status_code, answer.json()["data"]["sync_status"]) == (200, "fail")
    data = await box.http.get("/api/eam/assets", headers=await box.as_connection(key))
    assert (data.status_code, data.json()["code"]) == (401, "AUTHENTICATION_FAILED")
    await box.act(key, "restore-credentials")
    assert (await box.status(key)).json()["data"]["sync_status"] == "done"


@pytest.mark.parametrize(
    ("breaks", "status", "mends"),
    [("go-offline", 503, "come-online"), ("deactivate", 403, "activate")],
)
async def test_a_broken_connection_refuses_until_it_is_mended(
    box: Box, breaks: str, status: int, mends: str
) -> None:
    key = (await box.keys())[0]
    await box.act(key, breaks)
    answer = await box.status(key)
    assert answer.status_code == status
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    await box.act(key, mends)
    assert (await box.status(key)).status_code == 200


async def test_an_expired_token_is_refused_while_its_refresh_token_lives(box: Box) -> None:
    key = (await box.keys())[0]
    pair = await box.pair(key)
    await box.act(key, "expire-token")
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    answer = await box.http.get("/api/integrations/current", headers=headers)
    assert answer.status_code == 401
    settings = box.world.settings
    refreshed = await box.http.post(
        "/link/token",
        data={
            "grant_type": "refresh_token",
            "refresh_token": pair["refresh_token"],
            "client_id": settings.client_id,
            "client_secret": settings.client_secret,
        },
    )
    assert refreshed.status_code == 200


async def test_the_list_tells_inactive_and_any_status_a_test_invents(box: Box) -> None:
    first, second = (await box.keys())[:2]
    await box.act(first, "deactivate")
    await box.act(second, "status", status="Quarantined")
    answer = await box.http.get("/api/system/connections", headers=await box.admin())
    statuses = {c["key"]: c["status"] for c in answer.json()["data"]}
    assert (statuses[first], statuses[second]) == ("Inactive", "Quarantined")


async def test_a_whole_provider_goes_offline_and_is_mended(box: Box) -> None:
    await box.http.post("/_control/providers/upkeep/go-offline")
    shown = (await box.http.get("/_control/connections")).json()["data"]
    offline = [c for c in shown if c["state"] == "offline"]
    assert len(offline) >= 5
    assert {c["provider"] for c in offline} == {"upkeep"}
    await box.http.post("/_control/providers/upkeep/mend")
    shown = (await box.http.get("/_control/connections")).json()["data"]
    assert {c["state"] for c in shown} == {"healthy"}


async def test_a_connection_disconnects_itself(box: Box) -> None:
    key = (await box.keys())[0]
    headers = await box.as_connection(key)
    assert (await box.http.delete("/api/integrations/current", headers=headers)).is_success
    assert key not in await box.keys()


async def test_a_stalled_synchronization_keeps_its_time(box: Box) -> None:
    key = (await box.keys())[0]
    await box.act(key, "stall-sync")
    before = (await box.status(key)).json()["data"]["sync_updated_at"]
    await box.http.post("/_control/settings", json={"advance_seconds": 86_400})
    after = (await box.status(key)).json()["data"]
    assert (after["sync_status"], after["sync_updated_at"]) == ("done", before)


async def test_the_older_sync_status_agrees(box: Box) -> None:
    key = (await box.keys())[0]
    await box.act(key, "fail-sync")
    answer = await box.http.get(
        "/api/integrations/sync/status", headers=await box.as_connection(key)
    )
    assert answer.json() == {"status": "error"}


async def test_no_token_no_status(box: Box) -> None:
    for headers in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer x"}):
        answer = await box.http.get("/api/integrations/current", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "AUTHENTICATION_FAILED")
