"""Whether Makini's status of a connection answers, where records are read all the same.

A route that is broken for good makes no connection unreachable (`sweep/broken_status.py`), and so
nothing else tells of it.
"""

import asyncio

from sqlalchemy import exists, select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.doctor.finding import DoctorFinding, ok, warn
from linekeeper.health.evidence import Health
from linekeeper.makini import ErrorKind, MakiniClient, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential
from linekeeper.text import counted
from linekeeper.tokens.stored import is_live, load_tokens

ASKED = 3
"""Connections of an app that are asked, as one alone may be in trouble of its own."""
_BROKEN = (
    ErrorKind.unavailable,
    ErrorKind.not_found,
    ErrorKind.malformed,
    ErrorKind.rejected,
    ErrorKind.forbidden,
    ErrorKind.unauthorized,
)
"""What is an answer, and none about the state of a connection."""


async def examine_status(
    rt: Runtime, app: AppConfig, makini: MakiniClient, *, seconds: float
) -> list[DoctorFinding]:
    """What a few healthy connections of `app` answer with the tokens they have; none is renewed.

    Nothing where none has a token, or where no answer says anything of the route.
    """
    has_token = exists().where(
        col(Credential.connection_id) == col(Connection.id), is_live(utcnow())
    )
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(Connection)
            .where(
                col(Connection.app) == app.name,
                col(Connection.setup) != "disconnected",
                col(Connection.health) == Health.healthy,
                has_token,
            )
            .order_by(col(Connection.id))
            .limit(ASKED)
        )
        connections = list(rows)
        tokens = await load_tokens(rt.store, session, [each.id for each in connections])
    name, failed = f"app {app.name} · status", []
    for connection in connections:
        token = tokens.get(connection.id)
        if token is None:
            continue
        ref = app.ref_of(connection.makini_key, connection.makini_id)
        try:
            async with asyncio.timeout(seconds):
                await makini.status(token.access, connection=ref)
        except TimeoutError:
            continue
        except MakiniError as error:
            if error.kind in _BROKEN:
                failed.append(error.said)
            continue
        return [ok(name, "a connection answers how it is")]
    if not failed:
        return []
    return [
        warn(
            name,
            f"the status of {counted(len(failed), 'connection')} that "
            f"{'is' if len(failed) == 1 else 'are'} called healthy fails: "
            f"{failed[0]}",
            "if that goes on, show it to Makini. Until it is fixed a record is read in its place "
            "now and then: that notices a login that is lost, and no synchronization that fails",
        )
    ]
