"""`linekeeper status` says what waits in the inbox, and how implementations stand."""

import asyncio
import json
from datetime import datetime, timedelta

from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import AppState, WebhookEvent
from tests.cli.commands import CommandLine
from tests.cli.conftest import command, shown
from tests.implementation.conftest import Office

__all__ = ["command", "shown"]


async def _said(shown: CommandLine) -> tuple[dict, list[str]]:
    """The JSON, and the lines people read."""
    plain = json.loads((await asyncio.to_thread(shown, "status", "--json")).out)
    return plain, (await asyncio.to_thread(shown, "status")).out.splitlines()


async def test_an_empty_installation_has_nothing_waiting(store: Store, shown: CommandLine) -> None:
    plain, lines = await _said(shown)
    assert plain["inbox"] == {"pending": 0, "oldest_seconds": 0, "dead": 0, "unrouted": 0}
    assert set(plain["implementations"].values()) == {0}
    assert "inbox: 0 pending, 0 dead, 0 unrouted in a day" in lines
    assert "implementations: none underway" in lines


async def test_what_waits_in_the_inbox_is_counted(store: Store, shown: CommandLine) -> None:
    now = utcnow()

    def event(name: str, status: str, received: datetime, **more: object) -> WebhookEvent:
        return WebhookEvent(
            app="default",
            delivery_key=name,
            status=status,
            kind="records.updated",
            ordering_key=name,
            received_at=received,
            processed_at=None if status == "pending" else received,
            **more,
        )

    hours = timedelta(hours=3, minutes=5)
    async with store.write() as session:
        session.add(AppState(app="default"))
        session.add_all(
            [
                event("due", "pending", now - hours),
                event("new", "pending", now),
                # Tried in vain, and older than any: it waits for its next try.
                event("again", "pending", now - 2 * hours, attempts=2, error="no", rank=0),
                event("given-up", "dead", now - hours, attempts=9),
                event("whose", "unrouted", now),
                event("applied", "processed", now),
            ]
        )
    plain, lines = await _said(shown)
    inbox = plain["inbox"]
    assert (inbox["pending"], inbox["dead"], inbox["unrouted"]) == (3, 1, 1)
    assert hours.total_seconds() <= inbox["oldest_seconds"] < 2 * hours.total_seconds()
    [line] = [line for line in lines if line.startswith("inbox:")]
    assert line.startswith("inbox: 3 pending, the oldest due for 3 h")
    assert line.endswith(", 1 dead, 1 unrouted in a day")


async def test_implementations_are_counted_by_how_they_stand(
    store: Store, shown: CommandLine
) -> None:
    now = utcnow()
    office = Office(store, now=now - timedelta(days=60))
    promised = office.now.date() + timedelta(days=20)
    late = await office.start(committed=promised)
    held = await office.start(customer="Zeta")
    await office.update(held.progress, "hold", reason="they reorganise")
    office.now = now
    await office.start(customer="Young")
    await office.advance(late.progress)

    plain, lines = await _said(shown)
    assert plain["implementations"] == {
        "running": 2,
        "on_hold": 1,
        "at_risk": 0,
        "late": 1,
        "overdue_steps": 1,
    }
    [line] = [line for line in lines if line.startswith("implementations:")]
    title = late.progress.standing.implementation.title
    assert line == (
        "implementations: 2 running, 0 at risk, 1 late, 1 on hold; "
        f"1 step overdue: {title} · Kickoff and technical requirements"
    )
