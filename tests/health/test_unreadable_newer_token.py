"""While keys are rotated a process may meet a token that it can't read: that is no lost login."""

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

import sandbox
from linekeeper.makini import MakiniError
from linekeeper.makini.errors import NOT_ASKED
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential
from linekeeper.tokens.caller import Caller
from tests.health.test_sweep import adopt, connections


async def test_a_token_that_was_replaced_by_a_process_with_a_newer_key_loses_no_login(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Universe 32302: a customer logged in while a poll waited for its calls; the receiver had the
    new key, and the poll had begun before there was one."""
    await adopt(rt, fleet)
    [connection, *_] = await connections(rt)
    app = await rt.app("default")
    caller = await Caller.of(rt, app, connection)
    newer = Fernet(Fernet.generate_key())
    async with rt.store.write() as session:
        for pair in await session.scalars(select(Credential)):
            pair.access_token = newer.encrypt(b"of-the-login").decode()
            pair.refresh_token = newer.encrypt(b"to-refresh-it-by").decode()
    fleet.world.tokens.kill(fleet.world.connections[connection.makini_key])
    with pytest.raises(MakiniError) as met:
        await caller.call(lambda token: caller.makini.status(token.access, connection=caller.ref))
    assert met.value.kind in NOT_ASKED
    async with rt.store.read() as session:
        assert (await session.get_one(Connection, connection.id)).health == connection.health
