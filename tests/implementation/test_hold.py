"""On hold: the time is nobody's, dates move by it, and nothing is late for it."""

from datetime import date, timedelta

import pytest

from linekeeper.authentication_setup.watch import watch as watch_logins
from linekeeper.implementation.advance import advance_all, look
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.report import implementation_markdown
from linekeeper.notify.view import Links
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import AuthenticationSetup, ConnectLink
from tests.implementation.conftest import Office

SEVEN_WORKING_DAYS = {"days": 9}
"""From a Monday's morning to the Wednesday's of the week after."""


async def _days_pass(office: Office, days: int) -> None:
    """The hourly run, once a day."""
    for _ in range(days):
        office.later(days=1)
        await advance_all(office.store, now=office.now)


async def _said(office: Office) -> list[str]:
    return [row.payload["text"] for row in await office.outbox("slack")]


async def _seen(office: Office, progress: Progress) -> Progress:
    return await look(office.store, progress.standing.implementation.id, now=office.now)


async def test_time_on_hold_is_nobodys_and_nothing_is_late_for_it(office: Office):
    started = await office.start()
    office.later(hours=1)
    await office.update(started.progress, "hold", reason="the customer reorganises")
    await _days_pass(office, 9)
    resumed = await office.update(started.progress, "resume")
    evaluation = resumed.progress.evaluation
    assert evaluation.waited == {"us": pytest.approx(1 / 8), "customer": 0, "makini": 0}
    assert evaluation.on_hold == pytest.approx(7)
    assert evaluation.late == {}
    said = await _said(office)
    assert not [text for text in said if "overdue" in text or "late" in text]
    assert "goes on after 7.0 working days on hold" in said[-1]
    page = implementation_markdown(resumed.progress, office.now, Links())
    assert "Working days so far: 0.1 waiting for us" in page
    assert "7.0 on hold" in page
    await _days_pass(office, 2)  # and then it counts again
    assert (await _seen(office, started.progress)).evaluation.late == {"kickoff": "overdue"}


async def test_on_hold_the_forecast_moves_with_every_day(office: Office):
    started = await office.start()
    first = started.progress.outlook.p50
    await office.update(started.progress, "hold", reason="the customer reorganises")
    forecasts = []
    for _ in range(4):
        await _days_pass(office, 1)
        forecasts.append((await _seen(office, started.progress)).outlook.p50)
    assert forecasts == [first + timedelta(days=days) for days in (1, 2, 3, 6)]
    seen = await _seen(office, started.progress)
    page = implementation_markdown(seen, office.now, Links())
    assert "On hold since 2027-03-01 09:00 UTC. These 4.0 working days" in page
    assert "assumes that the work goes on now" in page
    assert "our turn" not in page


async def test_what_was_agreed_before_a_hold_moves_by_it_and_what_is_agreed_in_it_does_not(
    office: Office,
):
    promised = office.now.date() + timedelta(days=11)
    started = await office.start(committed=promised)
    move = {"which_date": "due"}
    await office.update(started.progress, "move", gate="kickoff", day=date(2027, 3, 2), **move)
    await office.update(started.progress, "move", gate="validation", day=date(2027, 3, 9), **move)
    await office.update(started.progress, "hold", reason="the customer reorganises")
    await _days_pass(office, 2)
    on_hold = await _seen(office, started.progress)
    assert on_hold.evaluation.late == {}  # as it was when the hold began
    await office.update(started.progress, "move", gate="validation", day=date(2027, 3, 20), **move)
    await _days_pass(office, 7)
    resumed = await office.update(started.progress, "resume")
    gates = resumed.progress.standing.gates
    assert gates["kickoff"].due == date(2027, 3, 11)
    assert gates["validation"].due == date(2027, 3, 20)
    assert "overdue" not in " ".join(await _said(office))
    [text] = [said for said in await _said(office) if "goes on" in said]
    assert "Due dates moved by 7 working days: Kickoff and technical requirements" in text
    assert f"The promised {promised} was not moved" in text
    assert resumed.progress.standing.implementation.committed == promised


async def test_what_was_said_before_a_hold_is_not_said_again_after_it(office: Office):
    started = await office.start(committed=office.now.date() + timedelta(days=1))
    await office.advance(started.progress)
    before = [text for text in await _said(office) if " is late " in text]
    await office.delivers_messages()
    await office.update(started.progress, "hold", reason="the customer reorganises")
    await _days_pass(office, 3)
    await office.update(started.progress, "resume")
    assert len(before) == 1
    assert [text for text in await _said(office) if " is late " in text] == before


async def test_the_go_live_and_the_end_count_the_hold_apart(office: Office):
    started = await office.start()
    await office.update(started.progress, "hold", reason="the customer reorganises")
    office.later(**SEVEN_WORKING_DAYS)
    ended = await office.update(started.progress, "abandon", reason="they left")
    assert ended.progress.evaluation.on_hold == pytest.approx(7)
    office.later(days=7)  # an end is an end
    after = await _seen(office, started.progress)
    assert after.evaluation.on_hold == pytest.approx(7)
    assert after.evaluation.waited["us"] == 0


async def test_no_customer_is_reminded_of_a_login_while_on_hold(office: Office, settings: Settings):
    started = await office.start()
    standing = started.progress.standing
    async with office.store.write() as session:
        link = ConnectLink(
            app="default", customer_id=standing.customer.id, system="SAP ECC", created_by="Olaf",
            created_at=office.now, expires_at=office.now + timedelta(days=30),
        )  # fmt: skip
        session.add(link)
        await session.flush()
        setup = AuthenticationSetup(
            run_id="run-1", system_id=standing.systems[0].id, started_at=office.now,
            started_by="Olaf", logins_from=office.now, confirmed_at=office.now,
            asked_at=office.now, link_id=link.id, waits_for="login",
            look_at=office.now + timedelta(days=30),
        )  # fmt: skip
        session.add(setup)
    await office.update(started.progress, "hold", reason="the customer reorganises")
    async with Runtime.open(settings) as rt:

        async def reminders(**passed: float) -> int:
            office.later(**passed)
            await watch_logins(rt, now=office.now)
            return len([text for text in await _said(office) if "remind the customer" in text])

        assert await reminders(**SEVEN_WORKING_DAYS) == 0
        await office.update(started.progress, "resume")
        assert await reminders(hours=1) == 0
        assert await reminders(days=1) == 1  # the first, a working day after it went on
