"""A quiet day is not a fleet that is well: the digest's first line claims no more than is known."""

from datetime import UTC, datetime

import pytest

from linekeeper.notify.view import Links
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Connection
from linekeeper.views.digest_page import gather, headline, slack_text

NOW = datetime(2027, 3, 2, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("states", "first", "fleet"),
    [
        ([("healthy", "probed"), ("healthy", "read")], "all healthy, nothing happened", "2 live "
         "connections, 0 not healthy"),
        ([("healthy", "listed"), ("healthy", None), ("healthy", "read")],
         "no incidents; 1 of 3 connections is known to be healthy",
         "3 live connections, 0 not healthy, 2 only listed as active"),
        ([("unknown", None), ("healthy", "read")],
         "no incidents; 1 of 2 connections is known to be healthy",
         "2 live connections, 1 not healthy"),
        ([("unknown", None)], "no incidents; no connection is known to be healthy",
         "1 live connection, 1 not healthy"),
        ([], "no incidents, and no live connection", "0 live connections, 0 not healthy"),
    ],
)  # fmt: skip
async def test_nothing_happened_is_not_all_healthy(
    store: Store, states: list[tuple[str, str | None]], first: str, fleet: str
) -> None:
    async with store.write() as session:
        for number, (health, evidence) in enumerate(states):
            session.add(
                Connection(
                    id=new_id(), app="default", makini_key=f"k{number}", name=f"ECC {number}",
                    slug=f"ecc-{number}", provider="SAP", setup="live", health=health,
                    evidence=evidence, created_at=NOW,
                )
            )  # fmt: skip
    day = await gather(store, {}, now=NOW)
    assert headline(day) == f"Digest: {first}"
    assert f"*Fleet* {fleet}\n" in slack_text(day, Links())
