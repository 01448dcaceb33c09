"""A run that several workers have taken at the same time, as after a crash, begins once."""

import asyncio

from sqlmodel import col

from linekeeper.authentication_setup.service import begin
from linekeeper.authentication_setup.subject import find_subject
from linekeeper.clock import utcnow
from linekeeper.customers.find import find_connection
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import Audit, AuthenticationSetup, WorkflowConfiguration
from linekeeper.workflow_configuration.decide import WantedConfiguration
from linekeeper.workflow_configuration.service import configure
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures
WORKERS = 6


async def test_a_set_up_of_a_login_begins_once(house: House) -> None:
    [connection, *_] = await house.connections()
    run_id = new_id()

    async def work() -> None:
        async with Runtime.open(house.rt.settings) as rt:
            async with rt.store.read() as session:
                subject = await find_subject(session, connection.makini_key, "", "")
            await begin(rt, subject, run_id=run_id, by="Petra", confirmed=True, now=utcnow())

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    [row] = await house.rows(AuthenticationSetup)
    assert (row.run_id, row.ended_at) == (run_id, None)
    assert len(await house.rows(Audit, col(Audit.action) == "setup.started")) == 1


async def test_a_configuration_is_written_once(house: House) -> None:
    [connection, *_] = await house.connections()
    run_id, wanted = new_id(), WantedConfiguration(("eam/assets",), 60, None)

    async def work() -> None:
        async with Runtime.open(house.rt.settings) as rt:
            async with rt.store.read() as session:
                named = await find_connection(session, connection.makini_key)
            await configure(rt, named, wanted, by="Petra", run_id=run_id, now=utcnow())

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    [row] = await house.rows(WorkflowConfiguration)
    assert row.run_id == run_id
    assert len(await house.rows(Audit, col(Audit.action) == "connection.configured")) == 1
