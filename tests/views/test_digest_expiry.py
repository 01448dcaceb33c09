"""The digest's line on logins that end says what the page `expiry` says."""

from datetime import timedelta

from sqlalchemy import update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection, Credential
from linekeeper.tokens.stored import save_tokens
from linekeeper.views.digest_page import markdown
from linekeeper.views.digest_queries import read_day
from tests.health.conftest import fleet
from tests.health.test_sweep import connections, sweep
from tests.managed import managed

__all__ = ["fleet"]


async def test_a_login_that_nobody_renews_is_not_said_to_end_unless_renewed(
    settings: Settings, fleet: sandbox.Served
) -> None:
    now = utcnow()
    async with Runtime.open(managed(settings, fleet.url)) as rt:
        await sweep(rt)
        renewed, refused, lent, ended, gone, *_ = await connections(rt)
        soon = now + timedelta(days=3)
        pairs = {each.id: TokenPair("a", "r", soon) for each in (renewed, refused, lent, gone)}
        pairs[ended.id] = TokenPair("a", "r", now - timedelta(days=1))
        async with rt.store.write() as session:
            await save_tokens(rt.store, session, pairs, now=now)
            for which, values in (
                (lent, {"custody": "borrowed"}),
                (gone, {"setup": "disconnected"}),
            ):
                await session.execute(
                    update(Connection).where(col(Connection.id) == which.id).values(**values)
                )
            await session.execute(
                update(Credential)
                .where(col(Credential.connection_id) == refused.id)
                .values(refused_at=now)
            )
        week = timedelta(days=7)
        day = await read_day(rt.store, since=now - week, charts_since=now - week, now=now)
    assert (day.expiring, day.ending) == (1, 1)
    assert (
        "1 token would end within 7 days unless renewed; one login ends that only the customer "
        "can renew"
    ) in markdown(day)
