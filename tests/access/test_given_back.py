"""A token that was given back and is refused was renewed by its holder: no trouble of anybody's."""

import pytest
from sqlmodel import col, select

from linekeeper.access.custody import return_tokens
from linekeeper.access.modes import WantedMode, change, find_subjects
from linekeeper.clock import utcnow
from linekeeper.reconcile.run import reconcile
from linekeeper.store.tables import Connection, Incident, Observation
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import take_list
from tests.access.test_custody import CutOver, cut_over

__all__ = ["cut_over"]  # a fixture


@pytest.mark.parametrize("mode", ["observe", "manage"])
@pytest.mark.parametrize("by", ["sweep", "poll"])
async def test_its_connection_is_judged_by_the_list_and_the_product_gets_no_dead_token(
    cut_over: CutOver, mode: str, by: str
) -> None:
    rt, [first, *_] = cut_over.rt, await cut_over.connections()
    pair = cut_over.pair(first)
    [result] = await cut_over.hand_over(
        {"connection": first.id, "access_token": pair.access, "refresh_token": pair.refresh}
    )
    assert result["custody"] == "owned"
    given = await return_tokens(rt, first, by="tests", now=utcnow())
    assert given is not None
    if mode == "observe":
        subjects = await find_subjects(rt, connections=[first.id])
        await change(rt, WantedMode(subjects, mode="observe"), by="tests", now=utcnow())
    path = f"/api/connections/{first.id}/token"
    answer = await cut_over.http.get(path, headers=cut_over.key)
    assert answer.json()["access_token"] == given["access_token"]  # it works until it is renewed
    cut_over.makini.world.tokens.refresh(given["refresh_token"])
    before = cut_over.renewals()
    app = await rt.app("default")
    if by == "poll":
        await reconcile(rt, connections=[first.id])
    for _ in range(2):
        await take_list(rt, app, now=utcnow())
        await probe_batch(rt, app, [first.id], started=utcnow(), last_try=True)
    async with rt.store.read() as session:
        known = await session.get_one(Connection, first.id)
        assert (known.health, known.evidence) == ("healthy", "listed")
        said = await session.scalars(
            select(col(Observation.message)).where(col(Observation.connection_id) == first.id)
        )
        assert not list(await session.scalars(select(Incident))), list(said)
    answer = await cut_over.http.get(path, headers=cut_over.key)
    assert answer.status_code == 409
    assert "its tokens were given back to the product" in answer.json()["error"]
    assert cut_over.renewals() == before
    assert await return_tokens(rt, first, by="tests", now=utcnow())
