"""Makini's token endpoint and Admin API, as MAKINI.md has them."""

from __future__ import annotations

import time

import orjson
import pytest

from .conftest import Box


def _client(box: Box) -> dict[str, str]:
    return {
        "client_id": box.world.settings.client_id,
        "client_secret": box.world.settings.client_secret,
    }


async def _refresh(box: Box, token: str) -> tuple[int, dict[str, object]]:
    answer = await box.http.post(
        "/link/token",
        data={"grant_type": "refresh_token", "refresh_token": token, **_client(box)},
    )
    return answer.status_code, answer.json()


async def test_a_wrong_client_gets_401_with_code_message_and_request_id(box: Box) -> None:
    answer = await box.http.post(
        "/link/token",
        json={"grant_type": "client_credentials", **_client(box), "client_secret": "nope"},
    )
    assert answer.status_code == 401
    body = answer.json()
    assert body["code"] == "AUTHENTICATION_FAILED"
    assert body["message"]
    assert body["request_id"] == answer.headers["X-Request-Id"]


async def test_the_list_needs_an_admin_token(box: Box) -> None:
    key = (await box.keys())[0]
    for headers in ({}, {"Authorization": "Bearer x"}, await box.as_connection(key)):
        answer = await box.http.get("/api/system/connections", headers=headers)
        assert answer.status_code == 401


async def test_every_connection_is_on_exactly_one_page(box: Box) -> None:
    headers = await box.admin()
    seen: list[str] = []
    page = last = 1
    while page <= last:
        answer = await box.http.get(
            "/api/system/connections", headers=headers, params={"page": page, "per_page": 7}
        )
        seen += [connection["key"] for connection in answer.json()["data"]]
        last = answer.json()["meta"]["last_page"]
        page += 1
    assert sorted(seen) == sorted(await box.keys())
    assert len(seen) == 24


async def test_cursors_lead_to_the_same_connections(box: Box) -> None:
    headers = await box.admin()
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await box.http.get(
            "/api/system/connections", headers=headers, params={"cursor": cursor, "limit": 10}
        )
        seen += [connection["key"] for connection in answer.json()["data"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break
    assert seen == await box.keys()


async def test_user_metadata_comes_in_three_shapes_and_names_the_customer(box: Box) -> None:
    answer = await box.http.get("/api/system/connections", headers=await box.admin())
    shapes = set()
    for connection in answer.json()["data"]:
        metadata = connection["user_metadata"]
        shapes.add(type(metadata))
        if isinstance(metadata, str):
            metadata = orjson.loads(metadata)
        if isinstance(metadata, list):
            metadata = {item["key"]: item["value"] for item in metadata}
        assert metadata["customer"] == connection["company_name"]
    assert shapes == {str, dict, list}


async def test_refreshing_kills_the_old_pair(box: Box) -> None:
    key = (await box.keys())[0]
    old = await box.pair(key)
    status, new = await _refresh(box, old["refresh_token"])
    assert status == 200
    for token, expected in ((old["access_token"], 401), (new["access_token"], 200)):
        answer = await box.http.get(
            "/api/integrations/current", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == expected
    assert (await _refresh(box, old["refresh_token"]))[0] == 401


async def test_expires_in_is_an_absolute_time_and_sometimes_a_string(box: Box) -> None:
    kinds = set()
    for key in (await box.keys())[:3]:
        _, new = await _refresh(box, (await box.pair(key))["refresh_token"])
        kinds.add(type(new["expires_in"]))
        assert int(str(new["expires_in"])) > time.time() + 29 * 86_400
    assert kinds == {int, str}


async def test_a_minted_token_works_beside_the_pair(box: Box) -> None:
    key = (await box.keys())[0]
    pair = await box.as_connection(key)
    answer = await box.http.post(f"/api/system/connections/{key}/token", headers=await box.admin())
    assert answer.json()["expires_in"] == 300
    minted = {"Authorization": f"Bearer {answer.json()['token']}"}
    for headers in (pair, minted):
        status = await box.http.get("/api/integrations/current", headers=headers)
        assert status.json()["data"]["id"] == key


async def test_a_minted_token_dies_after_five_minutes(box: Box) -> None:
    key = (await box.keys())[0]
    answer = await box.http.post(f"/api/system/connections/{key}/token", headers=await box.admin())
    minted = {"Authorization": f"Bearer {answer.json()['token']}"}
    await box.http.post("/_control/settings", json={"advance_seconds": 301})
    status = await box.http.get("/api/integrations/current", headers=minted)
    assert status.status_code == 401


async def test_a_connection_can_be_made_described_and_deleted(box: Box) -> None:
    headers = await box.admin()
    made = await box.http.post(
        "/api/system/connections",
        headers=headers,
        json={"name": "Nova · Fiix", "email": "it@nova.example", "provider": "fiix"},
    )
    assert made.status_code == 201
    token = {"Authorization": f"Bearer {made.json()['data']['access_token']}"}
    key = (await box.http.get("/api/integrations/current", headers=token)).json()["data"]["id"]
    metadata = f"/api/system/connections/{key}/metadata"
    items = [{"key": "customer", "value": "Nova"}]
    await box.http.post(metadata, headers=headers, json=items)
    assert (await box.http.get(metadata, headers=headers)).json()["data"] == items
    gone = await box.http.delete(f"/api/system/connections/{key}", headers=headers)
    assert gone.status_code == 204
    assert key not in await box.keys()
    status = await box.http.get("/api/integrations/current", headers=token)
    assert status.status_code == 401


async def test_an_unknown_provider_is_refused_in_laravels_manner(box: Box) -> None:
    answer = await box.http.post(
        "/api/system/connections",
        headers=await box.admin(),
        json={"name": "Nova", "email": "it@nova.example", "provider": "nope"},
    )
    assert answer.status_code == 422
    assert "provider" in answer.json()["errors"]


async def test_platforms_and_client_are_told(box: Box) -> None:
    headers = await box.admin()
    platforms = (await box.http.get("/api/system/platforms", headers=headers)).json()["data"]
    assert {"slug", "name", "description", "logo"} == platforms[0].keys()
    client = (await box.http.get("/api/system/client", headers=headers)).json()["data"]
    assert client["default_redirect"] in client["redirects"]


@pytest.mark.parametrize(
    ("fault", "status"), [("500", 500), ("429", 429), ("401", 401), ("html", 200)]
)
async def test_the_list_can_be_told_to_fail(box: Box, fault: str, status: int) -> None:
    headers = await box.admin()
    await box.http.post("/_control/settings", json={"admin_list": fault})
    answer = await box.http.get("/api/system/connections", headers=headers)
    assert answer.status_code == status
    assert ("text/html" in answer.headers["content-type"]) == (fault == "html")


async def test_a_truncated_list_is_no_json(box: Box) -> None:
    headers = await box.admin()
    await box.http.post("/_control/settings", json={"admin_list": "truncated"})
    answer = await box.http.get("/api/system/connections", headers=headers)
    with pytest.raises(ValueError):  # noqa: PT011  whatever the decoder says
        answer.json()


async def test_a_page_can_repeat_for_ever(box: Box) -> None:
    headers = await box.admin()
    await box.http.post("/_control/settings", json={"admin_list": "repeat"})
    pages = [
        (
            await box.http.get(
                "/api/system/connections", headers=headers, params={"page": page, "per_page": 5}
            )
        ).json()
        for page in (1, 2, 99)
    ]
    assert pages[0]["data"] == pages[1]["data"] == pages[2]["data"]
    assert pages[2]["meta"]["last_page"] == 100


async def test_more_calls_than_allowed_get_429_with_retry_after(open_box: object) -> None:
    box: Box = await open_box(per_minute=3)  # type: ignore[operator]
    headers = await box.admin()
    statuses = [
        (await box.http.get("/api/system/platforms", headers=headers)).status_code for _ in range(4)
    ]
    assert statuses == [200, 200, 200, 429]
    answer = await box.http.get("/api/system/platforms", headers=headers)
    assert answer.json()["code"] == "RATE_LIMIT_EXCEEDED"
    await box.http.post(
        "/_control/settings", json={"advance_seconds": int(answer.headers["Retry-After"])}
    )
    answer = await box.http.get("/api/system/platforms", headers=headers)
    assert answer.status_code == 200


async def test_the_sandbox_counts_calls_and_writes(box: Box) -> None:
    headers = await box.admin()
    key = (await box.keys())[0]
    await box.http.get("/api/system/connections", headers=headers)
    counted = (await box.http.get("/_control/calls")).json()
    assert counted["writes"] == 0
    assert counted["calls"]["GET /api/system/connections"] == 1
    await box.http.post(f"/api/system/connections/{key}/token", headers=headers)
    counted = (await box.http.get("/_control/calls")).json()
    assert counted["writes"] == 1
    assert counted["calls"]["POST /api/system/connections/{key}/token"] == 1
