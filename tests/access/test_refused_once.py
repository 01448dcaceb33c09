"""A renewal that Makini refuses once, by a hiccup, is no lost login, and costs no pair."""

from sqlmodel import select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection, Incident
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import take_list
from tests.access.rotating import (
    Rotating,
    managed,
    pair_of,
    rotating,
    rotating_server,
    with_k1,
)

__all__ = ["managed", "rotating", "rotating_server"]  # fixtures


async def swept(rt: Runtime, identifier: str) -> tuple[Connection, list[Incident]]:
    app = await rt.app("default")
    await take_list(rt, app, now=utcnow())
    await probe_batch(rt, app, [identifier], started=utcnow(), last_try=True)
    async with rt.store.read() as session:
        incidents = list(await session.scalars(select(Incident)))
        return await session.get_one(Connection, identifier), incidents


async def test_nobody_is_asked_to_log_in_whose_renewal_was_refused_once(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.ended, rotating.refusals = 1, 1
        known, incidents = await swept(rt, identifier)
        assert (known.health, incidents) == ("healthy", [])
        pair = await pair_of(rt.store, identifier)
        assert pair is not None
        assert (pair.token.access, pair.refresh) == ("a2", "r2")


async def test_one_that_is_refused_twice_is_lost_at_once_and_not_offered_again(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.ended, rotating.refusals = 1, 9
        for _ in range(2):
            known, incidents = await swept(rt, identifier)
            assert known.health == "reauthorization_required"
            assert [incident.kind for incident in incidents] == ["reauthorization_required"]
        assert rotating.refreshed == 2
