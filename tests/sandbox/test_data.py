"""Records: listed, paged, filtered, one by one, and what changes them."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.fleet import make_fleet
from sandbox.records import Change, Query, Records, parse_moment

from .conftest import Box


async def _all(box: Box, key: str, entity: str, **params: str) -> list[dict[str, Any]]:
    headers = await box.as_connection(key)
    found: list[dict[str, Any]] = []
    page = last = 1
    while page <= last:
        answer = await box.http.get(
            f"/api/{entity}", headers=headers, params={**params, "page": page, "per_page": 30}
        )
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        last = answer.json()["meta"]["last_page"]
        page += 1
    return found


async def _truth(box: Box, key: str, entity: str) -> dict[str, str]:
    answer = await box.http.get(
        "/_control/truth", params={"connection": key, "entity": entity, "webhooks": "0"}
    )
    truth: dict[str, str] = answer.json()["records"][key][entity]
    return truth


async def _of_provider(box: Box, provider: str) -> str:
    shown = (await box.http.get("/_control/connections")).json()["data"]
    return str(next(c["key"] for c in shown if c["provider"] == provider))


async def test_listing_and_truth_agree_after_changes_of_every_kind(box: Box) -> None:
    key = (await box.keys())[0]
    entity = "eam/work-orders"
    await box.http.post(
        "/_control/records",
        json={"connection": key, "entity": entity, "make": 9, "change": 12, "delete": 7},
    )
    listed = await _all(box, key, entity)
    truth = await _truth(box, key, entity)
    assert {record["key"]: record["updatedAt"] for record in listed} == truth
    assert len(listed) == len(truth) == 102


async def test_what_is_deleted_stays_listed_with_its_time_where_that_is_set(box: Box) -> None:
    key, entity = await _of_provider(box, "ibm-maximo"), "eam/assets"
    done = await box.http.post(
        "/_control/records", json={"connection": key, "entity": entity, "delete": 2}
    )
    gone = set(done.json()["records"][key][entity]["deleted"])
    headers = await box.as_connection(key)
    one = f"/api/{entity}/{sorted(gone)[0]}"
    assert gone.isdisjoint(record["key"] for record in await _all(box, key, entity))
    assert (await box.http.get(one, headers=headers)).status_code == 404

    await box.http.post("/_control/settings", json={"deleted": "listed"})
    since = {"filter[updatedAt:gteq]": "2026-01-01T00:00:00Z"}
    for listed in (await _all(box, key, entity), await _all(box, key, entity, **since)):
        assert {record["key"] for record in listed if record["deletedAt"]} == gone
        assert all(r["deletedAt"] in (None, r["updatedAt"]) for r in listed)
    assert (await box.http.get(one, headers=headers)).json()["data"]["deletedAt"]
    assert gone.isdisjoint(await _truth(box, key, entity))

    again = {"connection": key, "entity": entity, "record": {"key": sorted(gone)[0]}}
    await box.http.post("/_control/records", json={"put": [again]})
    [back] = [r for r in await _all(box, key, entity) if r["key"] == sorted(gone)[0]]
    assert back["deletedAt"] is None
    assert back["key"] in await _truth(box, key, entity)

    await box.http.post("/_control/settings", json={"deleted": ""})
    assert (gone - {back["key"]}).isdisjoint(r["key"] for r in await _all(box, key, entity))


async def test_an_entity_without_times_lists_nothing_that_was_deleted(box: Box) -> None:
    key, entity = await _of_provider(box, "emaint"), "eam/sites"
    await box.http.post("/_control/settings", json={"deleted": "listed"})
    before = await _all(box, key, entity)
    await box.http.post(
        "/_control/records", json={"connection": key, "entity": entity, "delete": 2}
    )
    assert len(await _all(box, key, entity)) == len(before) - 2 > 0


async def test_the_records_of_a_connection_add_up(box: Box) -> None:
    for key in (await box.keys())[:6]:
        truth = (await box.http.get("/_control/truth", params={"connection": key})).json()
        assert sum(len(records) for records in truth["records"][key].values()) == 200


async def test_keys_are_text_with_leading_zeros_and_lead_to_their_record(box: Box) -> None:
    key = (await box.keys())[0]
    headers = await box.as_connection(key)
    for record in (await _all(box, key, "eam/assets"))[:5]:
        assert record["key"].startswith("00")
        response = await box.http.get(f"/api/eam/assets/{record['key']}", headers=headers)
        assert response.json()["data"] == record
        stripped = record["key"].lstrip("0")
        missing = await box.http.get(f"/api/eam/assets/{stripped}", headers=headers)
        assert missing.status_code == 404


@pytest.mark.parametrize("way", ["filter[updatedAt:gteq]", "modified_after"])
async def test_changed_since_gives_exactly_what_changed(box: Box, way: str) -> None:
    key = (await box.keys())[0]
    entity = "eam/assets"
    before = await _all(box, key, entity)
    done = await box.http.post(
        "/_control/records", json={"connection": key, "entity": entity, "make": 2, "change": 3}
    )
    touched = done.json()["records"][key][entity]
    since = await _all(box, key, entity, **{way: "2026-01-01T00:00:00Z"})
    assert {r["key"] for r in since} == {*touched["made"], *touched["changed"]}
    moment = sorted(r["updatedAt"] for r in before)[50]
    later = await _all(box, key, entity, **{way: moment})
    now = await _all(box, key, entity)
    assert {r["key"] for r in later} == {r["key"] for r in now if r["updatedAt"] >= moment}


async def test_filters_and_sorting_follow_the_documented_operators(box: Box) -> None:
    key = (await box.keys())[0]
    entity = "eam/work-orders"
    everything = await _all(box, key, entity)
    high = await _all(box, key, entity, **{"filter[severity]": "High"})
    assert [r["key"] for r in high] == [r["key"] for r in everything if r["severity"] == "High"]
    either = await _all(
        box,
        key,
        entity,
        **{"filter[severity]": "High", "filter[title:contains]": "pump", "filterMatch": "any"},
    )
    assert {r["key"] for r in either} == {
        r["key"] for r in everything if r["severity"] == "High" or "pump" in r["title"]
    }
    newest = await _all(box, key, entity, **{"sort[updatedAt]": "1"})
    assert [r["updatedAt"] for r in newest] == sorted(
        (r["updatedAt"] for r in everything), reverse=True
    )


@pytest.mark.parametrize(
    "query",
    [
        {"page": "0"},
        {"page": "x"},
        {"per_page": "-1"},
        {"cursor": "???"},
        {"filter[a:almost]": "1"},
        {"filter[updatedAt:gteq]": "yesterday"},
        {"filter[": "1"},
    ],
)
async def test_a_query_that_makes_no_sense_gets_400(box: Box, query: dict[str, str]) -> None:
    key = (await box.keys())[0]
    answer = await box.http.get(
        "/api/eam/assets", headers=await box.as_connection(key), params=query
    )
    assert (answer.status_code, "message" in answer.json()) == (400, True)


async def test_an_entity_the_system_does_not_offer_is_404(box: Box) -> None:
    upkeep, sap = await _of_provider(box, "upkeep"), await _of_provider(box, "sap-ecc")
    for key, status in ((upkeep, 404), (sap, 200)):
        answer = await box.http.get(
            "/api/erp/purchase-orders", headers=await box.as_connection(key)
        )
        assert answer.status_code == status


async def test_an_entity_without_times_is_listed_whole_and_not_filtered(box: Box) -> None:
    key = await _of_provider(box, "infor-eam")
    listed = await _all(box, key, "eam/sites")
    assert listed
    assert all("updatedAt" not in record for record in listed)
    answer = await box.http.get(
        "/api/eam/sites",
        headers=await box.as_connection(key),
        params={"filter[updatedAt:gteq]": "2025-01-01T00:00:00Z"},
    )
    assert answer.status_code == 400


async def test_cursor_pages_cover_the_listing_once(box: Box) -> None:
    key = (await box.keys())[0]
    headers = await box.as_connection(key)
    keys: list[str] = []
    cursor = ""
    while cursor is not None:
        answer = await box.http.get(
            "/api/eam/assets", headers=headers, params={"cursor": cursor, "limit": 33}
        )
        keys += [record["key"] for record in answer.json()["data"]]
        cursor = answer.json()["next_cursor"]
    assert sorted(keys) == sorted(await _truth(box, key, "eam/assets"))


async def test_a_source_can_refuse_to_filter(box: Box) -> None:
    key = (await box.keys())[0]
    headers = await box.as_connection(key)
    await box.http.post("/_control/settings", json={"since": "modified_after"})
    moment = "2025-06-01T00:00:00Z"
    for name, status in (("filter[updatedAt:gteq]", 400), ("modified_after", 200)):
        answer = await box.http.get("/api/eam/assets", headers=headers, params={name: moment})
        assert answer.status_code == status


async def test_a_short_listing_ends_early_without_saying_so(box: Box) -> None:
    key = (await box.keys())[0]
    await box.http.post("/_control/settings", json={"data_list": "short"})
    assert len(await _all(box, key, "eam/work-orders")) == 50


async def test_writes_succeed_and_change_nothing(box: Box) -> None:
    key = (await box.keys())[0]
    before = await _truth(box, key, "eam/work-orders")
    answer = await box.http.post(
        "/api/eam/work-orders", headers=await box.as_connection(key), json={"title": "New"}
    )
    assert answer.json()["data"]["title"] == "New"
    assert await _truth(box, key, "eam/work-orders") == before


async def test_a_test_can_put_any_record_with_any_key_and_time(box: Box) -> None:
    key = (await box.keys())[0]
    odd = [
        {"key": "a1", "updatedAt": "2031-01-01T00:00:00Z"},
        {"key": "A1", "updatedAt": "not a time"},
        {"key": "0a1", "updatedAt": None},
    ]
    entity = "eam/assets"
    await box.http.post(
        "/_control/records",
        json={"put": [{"connection": key, "entity": entity, "record": r} for r in odd]},
    )
    listed = {r["key"]: r["updatedAt"] for r in await _all(box, key, entity)}
    truth = await _truth(box, key, entity)
    assert listed == truth
    for record in odd:
        assert truth[str(record["key"])] == record["updatedAt"]
    again = {"connection": key, "entity": entity, "record": {"key": "0a1", "name": "Pump"}}
    await box.http.post("/_control/records", json={"put": [again]})
    [changed] = [r for r in await _all(box, key, entity) if r["key"] == "0a1"]
    assert changed["name"] == "Pump"
    assert changed["updatedAt"] is not None


def test_the_same_seed_makes_the_same_world() -> None:
    one, other = (list(make_fleet(7, 40)) for _ in range(2))
    assert [c.key for c in one] == [c.key for c in other]
    assert [c.name for c in make_fleet(7, 20)] == [c.name for c in one[:20]]
    assert [c.key for c in make_fleet(8, 40)] != [c.key for c in one]
    bodies = [Records(100).of(c)["eam/assets"].body(3) for c in (one[0], other[0])]
    assert bodies[0] == bodies[1]


def test_every_key_leads_to_its_index_and_no_other_text_does() -> None:
    collection = Records(1_000).of(next(make_fleet(1, 1)))["eam/work-orders"]
    keys = [collection.key(index) for index in range(collection.count)]
    assert len(set(keys)) == collection.count
    assert [collection.index(key) for key in keys] == list(range(collection.count))
    assert collection.index("99999999999999") is None
    assert collection.index("") is None


def test_changes_since_a_moment_are_found_at_the_edges() -> None:
    collection = Records(1_000).of(next(make_fleet(1, 1)))["eam/work-orders"]
    at = collection.changed_at(100)
    assert collection.select(Query(since=at))[0] == 100
    assert collection.select(Query(since=at + 1))[0] == 101
    assert collection.select(Query(since=0)) == list(collection.live())
    collection.put(Change(parse_moment("2026-01-01T00:00:00Z"), 1), 5)
    assert 5 in collection.select(Query(since=at))
