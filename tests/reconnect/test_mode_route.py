"""`POST /api/connections/{connection}/mode`, asked by a script."""

from datetime import timedelta

from linekeeper.store.tables import Audit

from .conftest import House
from .test_ask import Opened
from .test_modes import pairs


async def test_a_script_turns_a_connection_and_back_after_a_dry_run(open_house: Opened) -> None:
    house = await open_house(makini_mode="observe", connections=3)
    one, other, *_ = await house.connections()
    await pairs(house, one, ends=timedelta(days=2))
    headers = await house.key("mode:write")
    path = f"/api/connections/{one.makini_key}/mode"

    would = await house.http.post(path, json={"mode": "manage", "dry_run": True}, headers=headers)
    assert would.status_code == 200
    assert would.json()["mode"] == "observe"
    assert would.json()["comes_to"]["named"] == 1
    assert len(would.json()["comes_to"]["renewed"]) == 1
    assert (await house.connection(one.id)).mode is None

    done = await house.http.post(path, json={"mode": "manage"}, headers=headers)
    assert (done.json()["mode"], done.json()["dry_run"]) == ("manage", False)
    assert done.json()["mode_by"].endswith("set by key product")
    assert done.json()["comes_to"]["to_manage"] == would.json()["comes_to"]["to_manage"]
    assert {row.id: row.mode for row in await house.connections()} | {one.id: None} == {
        row.id: None for row in await house.connections()
    }
    assert (await house.connection(one.id)).mode == "manage"

    refused = await house.http.post(path, json={"clear": True}, headers=headers)
    assert refused.status_code == 409
    assert "nobody would any more" in refused.json()["error"]
    back = {"clear": True, "stop_renewing": True}
    assert (await house.http.post(path, json=back, headers=headers)).json()["mode"] == "observe"
    audited = [(row.by, row.action) for row in await house.rows(Audit, Audit.subject == one.id)]
    assert audited == [("key product", "mode.set"), ("key product", "mode.cleared")]
    assert (await house.connection(other.id)).mode is None


async def test_what_says_nothing_or_may_not_changes_nothing(house: House) -> None:
    one, *_ = await house.connections()
    path = f"/api/connections/{one.id}/mode"
    headers = await house.key("mode:write")
    for body in (
        *({}, [], None, {"mode": "off"}, {"mode": True}, {"notify_customers": "yes"}),
        *({"clear": True, "mode": "manage"}, {"mode": "manage", "dry_run": 1}, {"clear": False}),
    ):
        assert (await house.http.post(path, json=body, headers=headers)).status_code == 422, body
    nobody = "/api/connections/nobody/mode"
    asked = {"mode": "manage"}
    assert (await house.http.post(nobody, json=asked, headers=headers)).status_code == 404
    assert (await house.http.post(path, json=asked)).status_code == 401
    weak = await house.key("tokens:write", name="weak")
    assert (await house.http.post(path, json=asked, headers=weak)).status_code == 403
    assert (await house.connection(one.id)).mode is None
