"""Calls take from their app's budget, and a pause that Makini asks for closes it that long."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from starlette.responses import JSONResponse

from linekeeper.makini import MakiniClient, MakiniError
from linekeeper.makini.budget import StatedLimit
from tests.makini.peer import Peer

CURRENT = "/api/integrations/current"
Connect = Callable[..., MakiniClient]


class CountingBudget:
    """Notes who asked."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.penalties: list[tuple[str, datetime, str | None]] = []

    async def take(
        self, app: str, per_minute: int, *, connection: str | None = None, waits: bool = True
    ) -> None:
        self.taken.append((app, per_minute))

    async def penalise(
        self,
        app: str,
        until: datetime,
        *,
        connection: str | None = None,
        is_refused: bool = True,
    ) -> None:
        self.penalties.append((app, until, connection))

    async def note_limit(self, app: str, stated: StatedLimit) -> None:
        self.stated = stated


async def test_every_call_takes_from_the_budget(peer: Peer, connect: Connect) -> None:
    budget = CountingBudget()
    peer.answer("GET", CURRENT, {"data": {"id": "7", "sync_status": "done"}})
    await connect(budget=budget, per_minute=90).status("t", connection="acme")
    assert budget.taken == [("plant", 90)]


async def test_no_limit_asks_no_budget(peer: Peer, connect: Connect) -> None:
    budget = CountingBudget()
    peer.answer("GET", CURRENT, {"data": {"id": "7", "sync_status": "done"}})
    await connect(budget=budget, per_minute=0).status("t", connection="acme")
    assert budget.taken == []


NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "Mon, 02 Mar 2026 08:01:30 GMT"}, 90.0),
        ({"Retry-After": "Sun, 01 Mar 2026 08:00:00 GMT"}, 0.0),
        # By the clock of whoever asks, which may be a day from ours.
        (
            {
                "Retry-After": "Tue, 03 Mar 2026 08:01:30 GMT",
                "Date": "Tue, 03 Mar 2026 08:00:00 GMT",
            },
            90.0,
        ),
        (
            {
                "Retry-After": "Sun, 01 Mar 2026 08:01:30 GMT",
                "Date": "Sun, 01 Mar 2026 08:00:00 GMT",
            },
            90.0,
        ),
        ({"Retry-After": "Mon, 02 Mar 2026 08:01:30 GMT", "Date": "soon"}, 90.0),
        ({"Retry-After": "99999999"}, 3600.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
async def test_a_429_closes_the_budget_of_its_connection_as_long_as_makini_asks(
    peer: Peer, connect: Connect, header: dict[str, str], seconds: float | None
) -> None:
    budget = CountingBudget()
    peer.answer("GET", CURRENT, lambda _: JSONResponse({}, 429, header))
    with pytest.raises(MakiniError) as caught:
        await connect(budget=budget, clock=lambda: NOW).status("t", connection="acme-ecc")
    assert caught.value.retry_after == seconds
    wait = 30.0 if seconds is None else seconds
    assert budget.penalties == [("plant", NOW + timedelta(seconds=wait), "acme-ecc")]
