"""One connection's status, asked and understood."""

from datetime import datetime, timedelta

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Observation, Outcome
from linekeeper.makini import (
    CONNECTION_PAUSED,
    NOT_ASKED,
    OTHER_SHAPE,
    ConnectionStatus,
    ErrorKind,
    MakiniError,
)
from linekeeper.tokens.caller import Caller, NoToken

_SYNC = {
    "done": Outcome.answered,
    "fulldone": Outcome.answered,
    "inprogress": Outcome.answered,
    "error": Outcome.sync_failing,
    "fail": Outcome.login_lost,
}
"""Makini's `sync_status` (MAKINI "Status"); `fail` is invalid platform credentials."""


def understand(
    status: ConnectionStatus,
    at: datetime,
    *,
    unread: bool = False,
    read_at: datetime | None = None,
) -> Observation:
    """What a status answer says; a word nobody knows is never healthy. Pure.

    `unread` and `read_at` are as in `Observation`.
    """
    outcome = _SYNC.get(status.sync_status, Outcome.strange)
    message = (
        None if outcome is Outcome.answered else f"sync_status {status.sync_status or 'absent'}"
    )
    return Observation(
        at=at,
        source="probe",
        outcome=outcome,
        unread=unread,
        message=message,
        request_id=status.request_id,
        latency=status.latency,
        sync_status=status.sync_status or None,
        sync_updated_at=status.sync_updated_at,
        read_at=read_at,
        called=status.id,
    )


def understand_error(
    error: MakiniError, at: datetime, *, unrenewed: bool = False
) -> Observation | None:
    """What a failed status call says of the connection; None if it says nothing of it. Pure.

    A call limit, an open circuit or a refusal of the app itself is not the connection's trouble.
    `unrenewed` is as in `Caller`: `error` came of the renewal, and the login is in doubt.
    """
    if error.connection is None or error.kind in NOT_ASKED:
        return None
    outcome = {
        ErrorKind.unauthorized: Outcome.login_lost,
        ErrorKind.forbidden: Outcome.unclear,
        ErrorKind.not_found: Outcome.unclear,
    }.get(error.kind, Outcome.unclear if error.code == OTHER_SHAPE else Outcome.missed)
    status = str(error.status) if error.status is not None else error.kind.value
    message = error.message or error.kind.value.replace("_", " ")
    if unrenewed:
        outcome = Outcome.unclear
        message = f"Makini refuses its token, and gave no other when asked for one: {message}"
    return Observation(
        at=at,
        source="probe",
        outcome=outcome,
        unrenewed=unrenewed,
        code=error.code or status,
        message=message,
        request_id=error.request_id,
    )


def may_answer_yet(error: MakiniError, *, misses: int) -> bool:
    """Whether a further try within the same sweep may help after `error`. Pure.

    Where the connection missed before (`misses`), or this call has hung, the next sweep is the
    further try: an outage of hundreds is waited for once a sweep, which ends before the next.
    """
    if error.kind in NOT_ASKED:
        return error.code != CONNECTION_PAUSED  # that lasts longer than the sweep
    hung = error.kind is ErrorKind.timeout and error.connection is not None
    return error.retryable and not misses and not hung


async def probe(
    caller: Caller, *, at: datetime, read_at: datetime | None = None
) -> Observation | None:
    """Ask Makini how the connection is; `caller` renews its token where that fixes a 401.

    `read_at` is when a poll last read one of its entities to the end, where that is known. It began
    `at`, and may wait for the call budget: an answer is dated by when its call was sent.

    Returns None for one that has no token and can get none; a token that has ended and can't be
    renewed in the connection's mode is none. Raises `MakiniError` if there was no usable answer;
    `understand_error` says what it means.
    """
    makini, ref = caller.makini, caller.ref
    try:
        status = await caller.call(lambda token: makini.status(token.access, connection=ref))
    except NoToken:
        return None
    except MakiniError as error:
        refused = error.kind is ErrorKind.unauthorized and error.connection is not None
        if caller.may_renew or not refused:
            raise
        return refused_token(error, at)
    sent = utcnow() - timedelta(seconds=status.latency)
    return understand(status, max(at, sent), unread=not caller.may_read, read_at=read_at)


def refused_token(error: MakiniError, at: datetime, *, source: str = "probe") -> Observation:
    """A 401 where nothing may be renewed: the token may have been replaced, or the login lost."""
    return Observation(
        at=at,
        source=source,
        outcome=Outcome.doubted,
        unread=True,
        code=error.code or str(error.status),
        message="Makini refuses the token held here before its end: it was replaced elsewhere, or "
        "the login is lost. Hand over the current one (linekeeper tokens import): Linekeeper does "
        "not renew it (mode observe, or a token that is borrowed).",
        request_id=error.request_id,
    )
