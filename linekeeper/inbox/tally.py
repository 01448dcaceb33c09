"""What left no event: repeats and rejections, counted in memory and written now and then.

Ten thousand bad signatures a second cost a counter each, and a handful of rows every ten seconds.
"""

from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Executable, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, insert, select

from linekeeper.store import Store, new_id
from linekeeper.store.tables import DeliveryCount, RejectedDelivery
from linekeeper.text import as_stored

SAMPLES_KEPT = 50
"""How many samples of each app are kept."""
_SAMPLES_HELD = 20
_HEADERS_KEPT = frozenset(
    {
        *("accept", "content-encoding", "content-length", "content-type", "date", "host"),
        *("transfer-encoding", "user-agent", "via", "webhook-id", "webhook-timestamp"),
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"),
        *("x-request-id", "x-webhook-id"),
    }
)
"""Of others nobody knows whether they hold a secret: nothing of them is kept."""

RawHeaders = Iterable[tuple[bytes, bytes]]


class _Sample(NamedTuple):
    app: str
    cause: str
    path: bytes
    headers: RawHeaders
    size: int
    at: datetime


class Tally:
    """Counts and samples of one process."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._samples: dict[str, deque[_Sample]] = {}

    def count(self, app: str, cause: str) -> None:
        """One more for `app`: `duplicate`, or the cause of a rejection."""
        self._counts[app, cause] += 1

    def sample(
        self, app: str, cause: str, *, path: bytes, headers: RawHeaders, size: int, at: datetime
    ) -> None:
        """Keep one rejected delivery to show; older ones of the app give way. No body is kept."""
        held = self._samples.get(app)
        if held is None:
            held = self._samples[app] = deque(maxlen=_SAMPLES_HELD)
        held.append(_Sample(app, cause, path, headers, size, at))

    async def flush(self, store: Store, *, now: datetime) -> None:
        """Write what was gathered; if that fails it is kept for the next time, and raised."""
        counts, self._counts = self._counts, Counter()
        samples, self._samples = self._samples, {}
        if not counts:
            return
        try:
            async with store.write() as session:
                await session.execute(_add(store, counts, now))
                rows = [_row(sample) for held in samples.values() for sample in held]
                if rows:
                    await session.execute(insert(RejectedDelivery).values(rows))
                for app in samples:
                    await session.execute(_forget(app))
        except BaseException:
            self._counts.update(counts)
            for app, held in samples.items():
                held.extend(self._samples.get(app, ()))
                self._samples[app] = held
            raise


def _add(store: Store, counts: Counter[tuple[str, str]], now: datetime) -> Executable:
    minute = now.replace(second=0, microsecond=0)
    rows = [
        {"app": app, "cause": cause, "minute": minute, "count": count}
        for (app, cause), count in sorted(counts.items())
    ]
    dialect: Any = sqlite if store.is_sqlite else postgresql
    statement = dialect.insert(DeliveryCount).values(rows)
    adding: Executable = statement.on_conflict_do_update(
        index_elements=["app", "cause", "minute"],
        set_={"count": col(DeliveryCount.count) + statement.excluded["count"]},
    )
    return adding


def _forget(app: str) -> Executable:
    kept = (
        select(RejectedDelivery.id)
        .where(col(RejectedDelivery.app) == app)
        .order_by(col(RejectedDelivery.at).desc(), col(RejectedDelivery.id).desc())
        .limit(SAMPLES_KEPT)
    )
    return delete(RejectedDelivery).where(
        col(RejectedDelivery.app) == app, col(RejectedDelivery.id).not_in(kept)
    )


def _row(sample: _Sample) -> dict[str, object]:
    return {
        "id": new_id(),
        "app": sample.app,
        "cause": sample.cause,
        "at": sample.at,
        "path": as_stored(sample.path.decode("latin-1")),
        "size": sample.size,
        "headers": _shown(sample.headers),
    }


def _shown(headers: RawHeaders) -> dict[str, str]:
    named = ((raw_name.decode("latin-1").lower(), raw_value) for raw_name, raw_value in headers)
    return {
        name: as_stored(raw_value.decode("latin-1"))
        for name, raw_value in named
        if name in _HEADERS_KEPT
    }
