"""One connection's status, asked and understood."""

from dataclasses import dataclass, replace
from datetime import datetime

from linekeeper.config import AppConfig
from linekeeper.health.judge import Observation, Outcome
from linekeeper.makini import ConnectionStatus, ErrorKind, MakiniClient, MakiniError
from linekeeper.store import Store
from linekeeper.tokens.renew import renew
from linekeeper.tokens.stored import Token

_SYNC = {
    "done": Outcome.answered,
    "fulldone": Outcome.answered,
    "inprogress": Outcome.answered,
    "error": Outcome.sync_failing,
    "fail": Outcome.login_lost,
}
"""Makini's `sync_status` (MAKINI "Status"); `fail` is invalid platform credentials."""


def understand(status: ConnectionStatus, at: datetime) -> Observation:
    """What a status answer says; a word nobody knows is never healthy. Pure."""
    outcome = _SYNC.get(status.sync_status, Outcome.strange)
    message = (
        None if outcome is Outcome.answered else f"sync_status {status.sync_status or 'absent'}"
    )
    return Observation(
        at=at,
        source="probe",
        outcome=outcome,
        message=message,
        request_id=status.request_id,
        latency=status.latency,
        sync_status=status.sync_status or None,
        sync_updated_at=status.sync_updated_at,
    )


def understand_error(error: MakiniError, at: datetime) -> Observation | None:
    """What a failed status call says of the connection; None if it says nothing of it. Pure.

    A call limit, an open circuit or a refusal of the app itself is not the connection's trouble.
    """
    if error.connection is None or error.kind in (ErrorKind.rate_limited, ErrorKind.circuit_open):
        return None
    outcome = {
        ErrorKind.unauthorized: Outcome.login_lost,
        ErrorKind.forbidden: Outcome.refused,
    }.get(error.kind, Outcome.missed)
    status = str(error.status) if error.status is not None else error.kind.value
    return Observation(
        at=at,
        source="probe",
        outcome=outcome,
        code=error.code or status,
        message=error.message or error.kind.value.replace("_", " "),
        request_id=error.request_id,
    )


@dataclass(frozen=True, slots=True)
class Probed:
    """What a connection answered, and the token it was asked with."""

    observation: Observation
    token: Token


async def probe(
    store: Store,
    makini: MakiniClient,
    app: AppConfig,
    *,
    connection_id: str,
    makini_ref: str,
    token: Token | None,
    owner: str,
    at: datetime,
) -> Probed | None:
    """Ask Makini how the connection is, renewing its token where that mends a 401.

    Returns None for one that has no token and can get none; a token that has ended and can't be
    renewed in the app's mode is none. Raises `MakiniError` if there was no
    usable answer; `understand_error` says what it means.
    """
    renewable = may_renew(app, token)
    if not renewable and (token is None or token.is_over(at)):
        return None
    if token is None or token.needs_minting(at):
        refused = token
        token = await renew(
            store,
            makini,
            app,
            connection_id=connection_id,
            makini_ref=makini_ref,
            refused=refused,
            owner=owner,
        )
        if token is None:
            token = refused
        if token is None:
            return None
    try:
        return _answer(await makini.status(token.access, connection=makini_ref), at, app, token)
    except MakiniError as error:
        if error.kind is not ErrorKind.unauthorized or error.connection is None:
            raise
        if not renewable:
            return Probed(refused_token(error, at), token)
        renewed = await renew(
            store,
            makini,
            app,
            connection_id=connection_id,
            makini_ref=makini_ref,
            refused=token,
            owner=owner,
        )
        if renewed is None:
            raise
    return _answer(await makini.status(renewed.access, connection=makini_ref), at, app, renewed)


def _answer(status: ConnectionStatus, at: datetime, app: AppConfig, token: Token) -> Probed:
    return Probed(replace(understand(status, at), unread=not app.manages), token)


def may_renew(app: AppConfig, token: Token | None) -> bool:
    """Whether `token` may be renewed, or one be minted; else its 401 says little of the login."""
    return app.manages and (token is None or token.is_ours)


def refused_token(error: MakiniError, at: datetime, *, source: str = "probe") -> Observation:
    """A 401 where nothing may be renewed: the token may have been replaced, or the login lost."""
    return Observation(
        at=at,
        source=source,
        outcome=Outcome.doubted,
        unread=True,
        code=error.code or str(error.status),
        message="Makini refuses the token held here before its end: somebody else may have "
        "replaced it, or the login is lost. Linekeeper does not renew it (mode observe, or a token "
        "that is borrowed).",
        request_id=error.request_id,
    )
