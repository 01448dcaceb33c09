"""The product's API with hostile names and bodies: an answer of its own, never 5xx."""

import pytest

from linekeeper.access.keys import make_key
from linekeeper.clock import utcnow
from linekeeper.store import new_id
from linekeeper.store.tables import Connection
from tests.receiver.conftest import Here, head

NAMES = ["%00", "%ff%fe", "a%00b", "%F0%9F%92%A9", "x" * 5_000, "%2e%2e%2fx", "'%20OR%201=1--", "0"]
BODIES = [
    b"",
    b"\xff",
    b"null",
    b"[]",
    b"[" * 5_000,
    b'{"status":1e400}',
    b'{"status":"401"}',
    b'{"status":401,"code":"\\u0000\\ud800","request_id":"a\\r\\nb"}',
    b'{"status":401,"at":"9999-12-31T23:59:59-23:59"}',
    b'{"status":401,"at":"0001-01-01T00:00:00+23:59"}',
    b'{"status":401,"at":{}}',
    b"x" * 20_000,
]


@pytest.fixture
async def bearer(here: Here) -> dict[str, str]:
    async with here.rt.store.write() as session:
        key = await make_key(session, "product", (), by="tests", now=utcnow())
    return {"Authorization": f"Bearer {key}"}


async def test_a_hostile_name_is_simply_not_found(here: Here, bearer: dict[str, str]) -> None:
    for name in NAMES:
        for path in ("", "/token"):
            answer = await here.http.get(f"/api/connections/{name}{path}", headers=bearer)
            assert answer.status_code == 404, name
        sent = await here.http.post(
            f"/api/connections/{name}/observations", content=b'{"status":401}', headers=bearer
        )
        assert sent.status_code == 404, name
    for cursor in ("%00", "x", "%ff", "-1", "9" * 400):
        answer = await here.http.get(f"/api/changes?after={cursor}", headers=bearer)
        assert answer.status_code in (200, 400), cursor
    for limit in ("0", "x", "1e3", "0" * 8 + "19999", "0" * 8 + "1" + "9" * 5_000):
        answer = await here.http.get(f"/api/changes?limit={limit}", headers=bearer)
        assert answer.status_code == 422, limit[:20]


async def test_a_hostile_report_is_refused_or_noted(here: Here, bearer: dict[str, str]) -> None:
    async with here.rt.store.write() as session:
        session.add(
            Connection(
                id=new_id(), app="default", makini_key="c1", name="A", slug="a", provider="UpKeep"
            )
        )
    for body in BODIES:
        answer = await here.http.post(
            "/api/connections/c1/observations", content=body, headers=bearer
        )
        assert answer.status_code in (202, 413, 422), body[:40]
    for status, answered in ((99, 422), (600, 422), (999, 422), (100, 202), (599, 202), (0, 202)):
        answer = await here.http.post(
            "/api/connections/c1/observations", json={"status": status}, headers=bearer
        )
        assert answer.status_code == answered, status
    for name in (b"Bearer \xff", b"Bearer " + b"\x01" * 10, b"bearer"):
        request = head(method="GET", path="/api/connections").replace(
            b"Host:", b"Authorization: " + name + b"\r\nConnection: close\r\nHost:"
        )
        assert (await here.raw(request)).split(b" ")[1] in (b"400", b"401")
