"""An attempt at reading an entity that failed: what its watermark holds of that."""

from datetime import datetime, timedelta
from typing import Any

from linekeeper.makini import (
    CONNECTION_PAUSED,
    DEFAULT_PENALTY,
    PAUSED,
    ErrorKind,
    ErrorScope,
    MakiniError,
)
from linekeeper.reconcile.marks import not_found_since, save_mark
from linekeeper.reconcile.policy import POLICY
from linekeeper.store import Store
from linekeeper.store.tables import Watermark


def is_call_limit(error: MakiniError, scope: ErrorScope) -> bool:
    """Whether it is the call limit of one connection that is reached. Pure."""
    return scope is ErrorScope.connection and error.kind is ErrorKind.rate_limited


async def note_failure(
    store: Store,
    connection_id: str,
    entity: str,
    mark: Watermark | None,
    error: MakiniError,
    *,
    scope: ErrorScope,
    now: datetime,
    is_left: bool = False,
) -> None:
    """The last attempt, of `mark`, failed; the watermark stays where it is.

    What is evidence about this entity alone counts as its own failure and makes it wait longer and
    longer, and so does a call limit of its connection; any other failure of the whole connection or
    app says nothing of it. An entity that `is_left`, as another of its connection met the limit,
    waits no longer than the pause that Makini asked for.
    """
    brief = error.brief_of(entity) if scope is ErrorScope.entity else error.brief
    values: dict[str, Any] = {"error": f"{brief}."[:500]}
    if scope is ErrorScope.entity or is_call_limit(error, scope):
        failures = (mark.failures if mark is not None else 0) + 1
        since = (mark.failing_since if mark is not None else None) or now
        missing = error.kind is ErrorKind.not_found
        values |= {
            "failure": error.kind.value,
            "failures": failures,
            "failing_since": since,
            "retry_at": _retry_at(
                mark, error, now, usually=POLICY.retry_after(now - since), is_left=is_left
            ),
            "not_found_since": not_found_since(mark, now) if missing else None,
        }
    async with store.write() as session:
        await save_mark(store, session, connection_id, entity, **values)


def _retry_at(
    mark: Watermark | None, error: MakiniError, now: datetime, *, usually: timedelta, is_left: bool
) -> datetime:
    """When an entity is read again after `error`. Pure.

    Whatever met a call limit waits for a run without it: it would bring about the next pause for
    all.
    """
    if error.kind is not ErrorKind.rate_limited:
        return now + usually
    pause = DEFAULT_PENALTY if error.retry_after is None else timedelta(seconds=error.retry_after)
    was_asked = not is_left and error.code not in (PAUSED, CONNECTION_PAUSED)
    if was_asked:
        return now + max(usually, pause + POLICY.retry)
    before = mark.retry_at if mark is not None and mark.retry_at is not None else now
    return max(before, now + min(usually, pause))
