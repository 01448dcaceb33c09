"""What a renewal leaves to others: the pair that another process got, and an answer that waited."""

import asyncio
import time

from linekeeper.makini import ConnectionStatus
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection
from linekeeper.tokens.caller import Caller
from linekeeper.tokens.renew import renew
from tests.access.rotating import (
    Rotating,
    managed,
    pair_of,
    rotating,
    rotating_server,
    with_k1,
)

__all__ = ["managed", "rotating", "rotating_server"]  # fixtures


async def caller_of(rt: Runtime, identifier: str) -> Caller:
    async with rt.store.read() as session:
        connection = await session.get_one(Connection, identifier)
    return await Caller.of(rt, await rt.app("default"), connection)


async def status_by(caller: Caller) -> ConnectionStatus:
    return await caller.call(
        lambda token: caller.makini.status(token.access, connection=caller.ref)
    )


async def test_a_token_that_another_process_got_and_that_ended_since_is_renewed(
    managed: Settings, rotating: Rotating
) -> None:
    """Universes 33731 and 34100: the customer was asked to log in again, where the calls of a poll
    waited for the call budget so long that two tokens ended meanwhile."""
    async with with_k1(managed, rotating) as (rt, identifier), Runtime.open(managed) as other:
        slow = await caller_of(rt, identifier)
        rotating.ended = 1
        await status_by(await caller_of(other, identifier))
        rotating.ended = 2
        assert (await status_by(slow)).sync_status == "done"
        assert rotating.number == 3
        assert rotating.dead == 0


async def test_a_pair_whose_answer_came_while_the_process_stood_still_is_stored(
    managed: Settings, rotating: Rotating
) -> None:
    """Universe 33551: the time limit of the call was over when the process went on, and the only
    pair that lived was thrown away with the answer that lay there."""
    async with with_k1(managed, rotating) as (rt, identifier):
        app = (await rt.app("default")).model_copy(update={"timeout_seconds": 0.5})
        caller = await caller_of(rt, identifier)
        rotating.may_answer.clear()
        renewing = asyncio.ensure_future(
            renew(
                rt.store, rt.makini(app), app, connection_id=identifier, makini_ref="k1",
                refused=caller.token, owner=rt.owner,
            )
        )  # fmt: skip
        await rotating.has_rotated()
        rotating.may_answer.set()
        time.sleep(2)
        renewed = await renewing
        assert renewed.token is not None
        stored = await pair_of(rt.store, identifier)
        assert stored is not None
        assert stored.token.access == renewed.token.access == "a2"
