"""Tokens in bulk: borrowed ones are only read with, pairs are verified, all can be given back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlmodel import col, select

import sandbox
from linekeeper.access.custody import Custody, return_tokens
from linekeeper.access.expiry import horizon
from linekeeper.access.issue import issue_access_token
from linekeeper.access.keys import make_key
from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.receiver import serve
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.leases import TOKENS, holding
from linekeeper.store.tables import Audit, Connection, Incident, Observation
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import take_list
from linekeeper.tokens.renew import renew
from linekeeper.tokens.stored import load_tokens, save_tokens
from tests.answering import answering


@dataclass(slots=True)
class CutOver:
    """A product with its tokens, a Makini, and Linekeeper in `manage`."""

    rt: Runtime
    makini: sandbox.Served
    http: httpx.AsyncClient
    key: dict[str, str]

    async def connections(self) -> list[Connection]:
        async with self.rt.store.read() as session:
            return list(await session.scalars(select(Connection).order_by(col(Connection.id))))

    def pair(self, connection: Connection) -> Any:
        """A new pair for it, as the product has from its customer's login."""
        found = self.makini.world.find(connection.makini_key)
        assert found is not None
        return self.makini.world.tokens.pair(found)

    def lives(self, access: str) -> bool:
        return self.makini.world.tokens.owner(access) is not None

    async def hand_over(self, *tokens: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self.http.post("/api/tokens", json={"tokens": tokens}, headers=self.key)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["results"]
        return found

    async def renew(self, connection: Connection) -> Any:
        app = await self.rt.app("default")
        async with self.rt.store.read() as session:
            token = (await load_tokens(self.rt.store, session, [connection.id])).get(connection.id)
        renewal = await renew(
            self.rt.store,
            self.rt.makini(app),
            app,
            connection_id=connection.id,
            makini_ref=connection.makini_key,
            refused=token,
            owner=self.rt.owner,
        )
        return renewal.token

    def renewals(self) -> int:
        calls = self.makini.world.calls
        minted = calls["POST", "/api/system/connections/{key}/token"]
        return minted + calls["GRANT", "refresh_token"]


@asynccontextmanager
async def cutting_over(settings: Settings, box: sandbox.Settings) -> AsyncIterator[CutOver]:
    """Linekeeper in `manage` beside a Makini as `box` says."""
    async with sandbox.serving(box) as makini:
        managed = settings.model_copy(
            update={
                "makini_api_url": makini.url,
                "makini_client_id": box.client_id,
                "makini_client_secret": SecretStr(box.client_secret),
                "makini_mode": "manage",
                "makini_per_minute": 0,
                "receiver_port": 0,
            }
        )
        async with Runtime.open(managed) as rt:
            await take_list(rt, await rt.app("default"), now=utcnow())
            async with rt.store.write() as session:
                key = await make_key(session, "product", (), by="tests", now=utcnow())
            with serve.listening(managed) as listener:
                url = serve.address(listener)
                async with answering(rt, listener), httpx.AsyncClient(base_url=url) as http:
                    yield CutOver(rt, makini, http, {"Authorization": f"Bearer {key}"})


@pytest.fixture
async def cut_over(settings: Settings) -> AsyncIterator[CutOver]:
    async with cutting_over(settings, sandbox.Settings(port=0, connections=8)) as made:
        yield made


async def test_a_borrowed_token_is_read_with_and_never_renewed(cut_over: CutOver) -> None:
    first, *_ = await cut_over.connections()
    pair = cut_over.pair(first)
    lent = {"connection": first.makini_key, "access_token": pair.access, "expires_in": 2592000}
    assert await cut_over.hand_over(lent) == [
        {"connection": first.makini_key, "custody": "borrowed", "error": None}
    ]
    assert await cut_over.renew(first) is None
    app = await cut_over.rt.app("default")
    await probe_batch(cut_over.rt, app, [first.id], started=utcnow(), last_try=True)
    [known, *_] = await cut_over.connections()
    assert known.health == "healthy"
    assert cut_over.lives(pair.access)
    assert cut_over.renewals() == 0
    assert not await horizon(cut_over.rt, until=utcnow().replace(year=utcnow().year + 1))


async def test_a_borrowed_token_that_the_product_replaced_is_no_lost_login(
    cut_over: CutOver,
) -> None:
    first, *_ = await cut_over.connections()
    stale = cut_over.pair(first)
    await cut_over.hand_over({"connection": first.id, "access_token": stale.access})
    newer = cut_over.pair(first)  # the product refreshed: the token lent before is dead
    app = await cut_over.rt.app("default")
    await probe_batch(cut_over.rt, app, [first.id], started=utcnow(), last_try=True)
    [known, *_] = await cut_over.connections()
    assert known.health != "reauthorization_required"
    async with cut_over.rt.store.read() as session:
        kinds = set(await session.scalars(select(Incident.kind)))
        said = list(
            await session.scalars(select(Observation.message).order_by(col(Observation.id)))
        )
    assert kinds <= {"unknown"}
    assert "linekeeper tokens import" in str(said[-1])  # what people are to do
    assert cut_over.lives(newer.access)
    assert cut_over.renewals() == 0


async def test_a_pair_is_taken_over_once_it_is_verified(cut_over: CutOver) -> None:
    first, second, *_ = await cut_over.connections()
    pair = cut_over.pair(first)
    wrong = {"connection": second.id, "access_token": pair.access, "refresh_token": pair.refresh}
    dead = {"connection": first.id, "access_token": "acc_dead", "refresh_token": "ref_dead"}
    for refused in (wrong, dead):
        [result] = await cut_over.hand_over(refused)
        assert result["custody"] is None
        assert result["error"]
    good = {"connection": first.id, "access_token": pair.access, "refresh_token": pair.refresh}
    for _ in range(2):  # repeating it does no harm
        [result] = await cut_over.hand_over(good)
        assert result["custody"] == "owned"
        assert cut_over.lives(pair.access)
    async with cut_over.rt.store.read() as session:
        audit = await session.scalars(select(Audit).where(col(Audit.action) == "token.owned"))
    assert [(row.subject, row.detail["before"]) for row in audit] == [(first.id, "none")]
    assert await cut_over.renew(first) is not None
    lent = {"connection": first.id, "access_token": cut_over.pair(first).access}
    [result] = await cut_over.hand_over(lent)
    assert "owns" in result["error"]


async def test_a_pair_that_takes_the_place_of_a_minted_token_is_in_the_audit(
    cut_over: CutOver,
) -> None:
    first, *_ = await cut_over.connections()
    await cut_over.renew(first)
    async with cut_over.rt.store.read() as session:
        assert (await load_tokens(cut_over.rt.store, session, [first.id]))[first.id].minted
    pair = cut_over.pair(first)
    handed = {"connection": first.id, "access_token": pair.access, "refresh_token": pair.refresh}
    for _ in range(2):
        [result] = await cut_over.hand_over(handed)
        assert result["custody"] == "owned"
    async with cut_over.rt.store.read() as session:
        audit = await session.scalars(select(Audit).where(col(Audit.action) == "token.owned"))
    assert [(row.subject, row.detail["before"]) for row in audit] == [(first.id, "none")]


async def test_a_lent_token_of_another_connection_or_none_is_refused(cut_over: CutOver) -> None:
    first, second, *_ = await cut_over.connections()
    theirs = cut_over.pair(first).access
    wrong, dead = await cut_over.hand_over(
        {"connection": second.id, "access_token": theirs},
        {"connection": first.id, "access_token": "acc_dead"},
    )
    assert wrong["custody"] is None
    assert wrong["error"] == "the token belongs to another connection"
    assert dead["custody"] is None
    assert "refuses" in dead["error"]
    async with cut_over.rt.store.read() as session:
        held = await load_tokens(cut_over.rt.store, session, [first.id, second.id])
    assert theirs not in {token.access for token in held.values()}
    assert cut_over.lives(theirs)


async def test_a_token_that_is_held_already_is_not_asked_about_again(cut_over: CutOver) -> None:
    first, *_ = await cut_over.connections()
    lent = {"connection": first.id, "access_token": cut_over.pair(first).access}
    for _ in range(2):
        [result] = await cut_over.hand_over(lent)
        assert result["custody"] == "borrowed"
    assert cut_over.makini.world.calls["GET", "/api/integrations/current"] == 1


async def test_what_makini_does_not_answer_in_time_says_so_and_may_be_handed_over_again(
    cut_over: CutOver, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = await cut_over.connections()
    tokens = [
        {"connection": row.makini_key, "access_token": cut_over.pair(row).access} for row in rows
    ]
    with monkeypatch.context() as patch:
        patch.setattr("linekeeper.receiver.api.ASKED_FOR_SECONDS", 0.0)
        late = await cut_over.hand_over(*tokens)
    assert all("send it again" in str(result["error"]) for result in late)
    assert {result["custody"] for result in late} == {None}
    again = await cut_over.hand_over(*tokens)
    assert {result["custody"] for result in again} == {"borrowed"}


@pytest.mark.parametrize("whole", [False, True])
async def test_where_the_list_has_keys_only_a_token_is_told_by_what_fits(
    settings: Settings, whole: bool
) -> None:
    box = sandbox.Settings(port=0, connections=8, distinct_ids=True, listed_ids=False)
    async with cutting_over(settings, box) as cut_over:
        first, second, *_ = await cut_over.connections()
        pair = cut_over.pair(first)
        token = {"access_token": pair.access}
        token |= {"refresh_token": pair.refresh} if whole else {}
        [wrong] = await cut_over.hand_over({"connection": second.id, **token})
        assert wrong["error"] == "the token belongs to another connection"
        [right] = await cut_over.hand_over({"connection": first.id, **token})
        assert right["custody"] == ("owned" if whole else "borrowed")
        [known, *_] = await cut_over.connections()
        assert known.makini_id not in (None, known.makini_key)


async def test_one_that_is_wrong_stops_no_other(cut_over: CutOver) -> None:
    rows = await cut_over.connections()
    tokens = [
        {"connection": row.makini_key, "access_token": cut_over.pair(row).access} for row in rows
    ]
    tokens[3]["connection"] = "nobody's"
    results = await cut_over.hand_over(*tokens)
    assert [result["custody"] for result in results] == [
        None if position == 3 else "borrowed" for position in range(len(rows))
    ]
    many = [tokens[0]] * 1001
    answer = await cut_over.http.post("/api/tokens", json={"tokens": many}, headers=cut_over.key)
    assert answer.status_code == 422


async def test_after_an_export_nothing_is_renewed_and_no_token_has_died(
    cut_over: CutOver,
) -> None:
    first, second, third, *_ = await cut_over.connections()
    pair = cut_over.pair(first)
    await cut_over.hand_over(
        {"connection": first.id, "access_token": pair.access, "refresh_token": pair.refresh},
        {"connection": second.id, "access_token": cut_over.pair(second).access},
    )
    renewing, given = await asyncio.gather(
        cut_over.renew(first), return_tokens(cut_over.rt, first, by="tests", now=utcnow())
    )
    assert given is not None
    assert cut_over.lives(given["access_token"])
    assert renewing is None or renewing.access == given["access_token"]
    again = await return_tokens(cut_over.rt, first, by="tests", now=utcnow(), to="age1other")
    assert again == given
    assert await return_tokens(cut_over.rt, second, by="tests", now=utcnow()) is None
    assert await return_tokens(cut_over.rt, third, by="tests", now=utcnow()) is None
    before = cut_over.renewals()
    for connection in (first, second, third):
        assert await cut_over.renew(connection) is None
    assert cut_over.renewals() == before
    async with cut_over.rt.store.read() as session:
        found = await session.scalars(select(Audit).where(col(Audit.action) == "token.exported"))
        exported = [(row.subject, row.detail.get("to")) for row in found]
        ended = await session.scalars(
            select(Audit.subject).where(col(Audit.action) == "token.renewal_ended")
        )
        assert list(ended) == [third.id]
    assert sorted(exported, key=str) == sorted([(first.id, None), (first.id, "age1other")], key=str)
    held = [row.custody for row in (await cut_over.connections())[:3]]
    assert held == [Custody.exported.value, Custody.borrowed.value, Custody.exported.value]
    issued = await issue_access_token(cut_over.rt, second, by="product", now=utcnow())
    assert cut_over.lives(issued.access_token)
    withheld = await issue_access_token(
        cut_over.rt, (await cut_over.connections())[2], by="product", now=utcnow()
    )
    assert "its tokens were given back to the product" in withheld.reason
    withheld = await issue_access_token(
        cut_over.rt, (await cut_over.connections())[2], by="product", now=utcnow()
    )
    assert "its tokens were given back to the product" in withheld.reason


async def test_the_status_that_verified_a_token_is_evidence_at_once(cut_over: CutOver) -> None:
    first, second, third, *_ = await cut_over.connections()
    assert first.evidence is None
    lost = cut_over.makini.world.find(second.makini_key)
    assert lost is not None
    cut_over.makini.world.change_credentials(lost)
    pair = cut_over.pair(third)
    await cut_over.hand_over(
        {"connection": first.id, "access_token": cut_over.pair(first).access},
        {"connection": second.id, "access_token": cut_over.pair(second).access},
        {"connection": third.id, "access_token": pair.access, "refresh_token": pair.refresh},
        {"connection": first.id, "access_token": "acc_dead"},
    )
    first, second, third, *_ = await cut_over.connections()
    assert [(row.health, row.evidence) for row in (first, third)] == [("healthy", "probed")] * 2
    assert second.health == "reauthorization_required"
    async with cut_over.rt.store.read() as session:
        [incident] = await session.scalars(select(Incident))
    assert incident.kind == "reauthorization_required"


async def test_a_login_that_comes_while_a_pair_is_verified_is_not_written_over(
    cut_over: CutOver,
) -> None:
    """It killed that pair: whose was stored last would have to log in once more."""
    first, *_ = await cut_over.connections()
    store, pair = cut_over.rt.store, cut_over.pair(first)
    handed = {"connection": first.id, "access_token": pair.access, "refresh_token": pair.refresh}
    asked = ("GET", "/api/integrations/current")
    before = cut_over.makini.world.calls[asked]
    async with holding(store, TOKENS, "a login", subject=first.id, seconds=60, wait=True):
        handing = asyncio.create_task(cut_over.hand_over(handed))
        while cut_over.makini.world.calls[asked] == before:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # it is answered by now, and the pair waits for the lease
        newer = cut_over.pair(first)
        login = TokenPair(newer.access, newer.refresh, None)
        async with store.write() as session:
            await save_tokens(store, session, {first.id: login}, now=utcnow())
    [result] = await handing
    assert result["custody"] is None
    assert "send it again" in result["error"]
    async with store.read() as session:
        [kept] = (await load_tokens(store, session, [first.id])).values()
    assert kept.access == newer.access
    assert cut_over.lives(kept.access)
    [result] = await cut_over.hand_over(handed)
    assert "Makini refuses this token" in result["error"]
