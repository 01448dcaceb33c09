"""Reading some records of one connection, renewing its token where that mends a 401."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.health.judge import Observation
from linekeeper.health.probe import understand_error
from linekeeper.inbox.routing import Target
from linekeeper.makini import ErrorKind, MakiniClient, MakiniError
from linekeeper.reconcile.fields import record_key, stored_key
from linekeeper.runtime import Runtime
from linekeeper.tokens import Token, renew


class Records(NamedTuple):
    """What was read; `asked_at` is from before the first call."""

    asked_at: datetime
    records: Sequence[dict[str, Any]]
    note: str | None = None


class Refused(Exception):
    """The connection lets nobody read: its login is broken, or it may not.

    `observation` is what that says of its health.
    """

    def __init__(self, error: MakiniError, observation: Observation | None) -> None:
        super().__init__(str(error))
        self.observation = observation


async def read_records(
    rt: Runtime, app: AppConfig, target: Target, token: Token, *, entity: str, keys: Sequence[str]
) -> Records:
    """The current records under `keys`; those the source doesn't have are left out.

    Raises `Refused`, or `MakiniError` if there was no usable answer.
    """
    makini = rt.makini(app)
    ref = (target.makini_key if app.connection_field == "key" else target.makini_id) or ""
    ref = ref or target.makini_key

    async def renewed() -> Token | None:
        return await renew(
            rt.store,
            makini,
            app,
            connection_id=target.id,
            makini_ref=ref,
            refused=token,
            owner=rt.owner,
        )

    if token.needs_minting(utcnow()):
        token = await renewed() or token
    try:
        try:
            return await _read(makini, token, ref, entity, keys)
        except MakiniError as error:
            if error.kind is not ErrorKind.unauthorized or error.connection is None:
                raise
            newer = await renewed()
            if newer is None:
                raise
        return await _read(makini, newer, ref, entity, keys)
    except MakiniError as error:
        final = error.kind in (ErrorKind.unauthorized, ErrorKind.forbidden)
        if not final or error.connection is None:
            raise
        raise Refused(error, understand_error(error, utcnow())) from error


async def _read(
    makini: MakiniClient, token: Token, ref: str, entity: str, keys: Sequence[str]
) -> Records:
    asked_at = utcnow()
    found: dict[str, dict[str, Any]] = {}
    missing = {stored_key(key): key for key in keys}
    if len(missing) > 1:
        try:
            found = await _list(makini, token, ref, entity, missing)
        except MakiniError as error:
            if error.kind is ErrorKind.not_found:
                return Records(asked_at, (), f"the system does not offer {entity}")
            if error.kind is not ErrorKind.rejected:
                raise
    for stored, key in missing.items():
        if stored not in found:
            one = await makini.record(token.access, entity, key, connection=ref)
            if one is not None and record_key(one) == stored:
                found[stored] = one
    return Records(asked_at, list(found.values()))


async def _list(
    makini: MakiniClient, token: Token, ref: str, entity: str, missing: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Read many at once; breaks off where the source doesn't heed the filter and lists it all."""
    found: dict[str, dict[str, Any]] = {}
    pages = makini.records(token.access, entity, connection=ref, keys=list(missing.values()))
    async for page in pages:
        wanted = [(key, one) for one in page.records if (key := record_key(one)) in missing]
        found.update((key, one) for key, one in wanted if key is not None)
        if len(wanted) < len(page.records):
            break
    return found
