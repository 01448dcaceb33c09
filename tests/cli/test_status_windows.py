"""Of whom nobody is notified now is on the page `fleet` and in `linekeeper status`."""

import asyncio
import json
from datetime import timedelta
from typing import Literal

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, Configuration
from linekeeper.incidents import operate
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.store import Store
from linekeeper.store.tables import Customer, Incident
from linekeeper.views.fleet_page import fleet_markdown
from linekeeper.views.fleet_queries import fleet_report
from linekeeper.views.stamps import fleet_stamp
from linekeeper.watch.queries import note_prefect
from tests.cli.commands import CommandLine
from tests.cli.conftest import command, shown

__all__ = ["command", "shown"]

CONFIGURATION = Configuration(apps={"default": AppConfig(mode="observe")})
HEADING = "Maintenance windows and mutes"


async def _page(store: Store, ahead: timedelta = timedelta()) -> str:
    report = await fleet_report(store, CONFIGURATION, now=utcnow() + ahead)
    return fleet_markdown(report, Links(FROM_A_PAGE))


async def _stamp(store: Store, ahead: timedelta = timedelta()) -> str:
    return await fleet_stamp(store, CONFIGURATION, Links(FROM_A_PAGE), now=utcnow() + ahead)


async def _begin(
    store: Store, kind: Literal["maintenance", "mute"], wanted: str, *, ahead: float = 0
) -> None:
    now = utcnow()
    await operate.begin(
        store,
        "customer" if wanted else "all",
        wanted,
        kind=kind,
        starts_at=now + timedelta(hours=ahead),
        lasts=timedelta(hours=2),
        by="Petra",
        reason="patch day",
        now=now,
    )


async def _both(store: Store, shown: CommandLine) -> tuple[str, list[dict[str, object]], str]:
    """The page, what `status --json` has, and what `status` prints."""
    plain = json.loads((await asyncio.to_thread(shown, "status", "--json")).out)["windows"]
    assert plain["total"] == len(plain["shown"])
    return await _page(store), plain["shown"], (await asyncio.to_thread(shown, "status")).out


async def test_where_there_are_none_no_screen_speaks_of_them(
    store: Store, shown: CommandLine
) -> None:
    page, plain, lines = await _both(store, shown)
    assert plain == []
    assert HEADING not in page + lines


async def test_what_is_in_force_is_shown_with_its_end_and_who_set_it(
    store: Store, shown: CommandLine
) -> None:
    before = await _stamp(store)
    async with store.write() as session:
        session.add(Customer(name="Acme | Sons", slug="acme"))
        session.add(Customer(name="Beta", slug="beta"))
        incident = Incident(kind="unreachable", scope="app", cause="c", app="default", title="Gone")
        session.add(incident)
    await _begin(store, "maintenance", "Acme | Sons")
    await _begin(store, "mute", "Beta")
    await _begin(store, "maintenance", "", ahead=30)  # not yet
    await operate.mute(store, incident.id, 1, by="Olaf", now=utcnow())
    page, plain, lines = await _both(store, shown)
    until = {str(window["label"]): str(window["until"]) for window in plain}
    assert [(w["kind"], w["label"], w["by"], w["reason"], w["incident"]) for w in plain] == [
        ("mute", "Gone", "Olaf", "", incident.id),
        ("maintenance", "Acme | Sons", "Petra", "patch day", None),
        ("mute", "Beta", "Petra", "patch day", None),
    ]
    ends = f"{until['Beta'][:10]} {until['Beta'][11:16]} UTC"
    assert f"- **Acme \\| Sons**: maintenance window until {ends}, set by Petra: patch day" in page
    assert page.index("**Gone**: mute of one incident") < page.index("maintenance window")
    for words in (HEADING, "maintenance window", "Acme | Sons", ends, "Petra", "patch day", "Olaf"):
        assert words in lines
    assert await _stamp(store) != before, "the page is written anew"


async def test_what_has_ended_is_on_no_screen(store: Store, shown: CommandLine) -> None:
    async with store.write() as session:
        session.add(Customer(name="Acme", slug="acme"))
    await _begin(store, "maintenance", "Acme")
    during = await _stamp(store)
    assert HEADING in await _page(store)
    assert HEADING not in await _page(store, timedelta(hours=3))
    assert await _stamp(store, timedelta(hours=3)) != during
    await operate.end(store, "customer", "Acme", by="Petra", now=utcnow())
    page, plain, lines = await _both(store, shown)
    assert plain == []
    assert HEADING not in page + lines


async def test_a_pause_of_everything_is_in_force_until_it_is_ended(
    store: Store, shown: CommandLine
) -> None:
    await note_prefect(store, {}, paused=True)
    page, plain, lines = await _both(store, shown)
    [pause] = plain
    assert (pause["kind"], pause["label"], pause["until"]) == ("pause", "everything", None)
    assert "- **everything**: pause until it is ended, set by linekeeper: the variable" in page
    assert "linekeeper\\_paused is set" in page
    assert "it is ended" in lines
    await note_prefect(store, {}, paused=False)
    page, plain, lines = await _both(store, shown)
    assert plain == []
    assert HEADING not in page + lines
