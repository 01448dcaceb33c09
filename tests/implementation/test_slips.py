"""A slip that waits for working hours: what is said then is so then."""

from datetime import date, datetime, timedelta

from sqlalchemy import select, update

from linekeeper.implementation import queries
from linekeeper.implementation.advance import advance_all, advance_in
from linekeeper.implementation.notified import NotifiedSlip, Sign, notified_of, signs_in
from linekeeper.implementation.progress import forecast_anew
from linekeeper.implementation.start import Started
from linekeeper.implementation.watch import forecast_missed
from linekeeper.outbox.about import is_a
from linekeeper.store.tables import Implementation, Outbox, Silence
from linekeeper.watch.queries import note_prefect
from tests.implementation.conftest import Office


async def slips(office: Office) -> list[tuple[str, str]]:
    rows = [row for row in await office.outbox("slack") if ":slip:" in row.dedupe_key]
    return [(row.status, row.payload["text"]) for row in rows]


async def late_at_night(office: Office) -> Started:
    """A slip that was found on a Saturday, and waits for Monday."""
    started = await office.start()
    office.later(days=5, hours=12)
    await advance_all(office.store, now=office.now)
    [(status, text)] = await slips(office)
    assert status == "pending"
    assert "overdue: Kickoff" in text
    office.later(hours=3)
    return started


async def test_a_slip_is_announced_where_no_run_comes_to_find_it(office: Office):
    await office.start()
    office.later(days=2, hours=2)
    assert await forecast_missed(office.store, "consumer", now=office.now)
    [(_, text)] = await slips(office)
    assert "overdue: Kickoff" in text
    office.later(hours=1)
    assert not await forecast_missed(office.store, "consumer", now=office.now)  # nothing is missing
    assert len(await slips(office)) == 1


async def test_nothing_is_forecast_while_everything_is_paused(office: Office):
    await office.start()
    await note_prefect(office.store, {}, paused=True)
    async with office.store.write() as session:  # by the office's clock, not by today's
        await session.execute(update(Silence).values(starts_at=office.now))
    office.later(days=2, hours=2)
    assert not await forecast_missed(office.store, "consumer", now=office.now)
    assert await slips(office) == []


async def test_a_slip_that_is_over_before_it_was_said_is_not_said(office: Office):
    started = await late_at_night(office)
    await office.says(started.progress, "kickoff")
    assert [status for status, _ in await slips(office)] == ["superseded"]


async def test_nobody_reads_on_monday_that_what_was_given_up_on_sunday_is_late(office: Office):
    started = await late_at_night(office)
    await office.update(started.progress, "abandon", reason="they went bankrupt")
    assert [status for status, _ in await slips(office)] == ["superseded"]


async def test_a_slip_is_said_in_the_words_of_the_moment(office: Office):
    started = await late_at_night(office)
    await office.update(started.progress, "reassign", to="Rita")
    [(status, text)] = await slips(office)
    assert status == "pending"
    assert "Owner Rita" in text


async def test_a_slip_that_a_hold_overtook_is_said_once_it_goes_on(office: Office):
    started = await late_at_night(office)
    await office.update(started.progress, "hold", reason="they move")
    assert [status for status, _ in await slips(office)] == ["superseded"]
    office.later(days=1)
    await office.update(started.progress, "resume")
    assert [status for status, _ in await slips(office)] == ["superseded", "pending"]


async def test_what_becomes_late_while_a_slip_waits_is_said_with_it(office: Office):
    started = await late_at_night(office)
    await office.update(started.progress, "move", which_date="committed", day=date(2027, 3, 2))
    [(before, _), (after, text)] = await slips(office)
    assert (before, after) == ("superseded", "pending")
    assert "overdue: Kickoff" in text
    assert "is late" in text
    await office.says(started.progress, "kickoff")
    assert (await slips(office))[1][0] == "pending"  # the date is still missed


async def said_late_and_better(office: Office) -> Started:
    """Its promised date was announced as late; half an hour later it is at risk only."""
    office.now = office.now.replace(hour=15)
    started = await office.start(committed=date(2027, 3, 8))
    progress = await office.advance(started.progress)
    await office.delivers_messages()
    office.later(minutes=30)
    await office.says(progress, "kickoff")
    return started


async def test_a_date_that_gets_better_is_no_new_slip(office: Office):
    office.now = office.now.replace(hour=15)
    started = await office.start(committed=date(2027, 3, 8))
    progress = await office.advance(started.progress)
    assert progress.outlook.commitment == "late"
    await office.delivers_messages()
    office.later(minutes=30)
    taken = await office.says(progress, "kickoff")
    assert taken.progress is not None
    assert taken.progress.outlook.commitment == "at risk"
    assert [("is late" in text) for _, text in await slips(office)] == [True]


async def test_a_date_that_is_late_again_before_it_was_well_for_a_day_is_no_new_slip(
    office: Office,
):
    started = await said_late_and_better(office)
    commitments = []
    for _ in range(4):
        progress = await office.advance(started.progress)
        commitments.append(progress.outlook.commitment)
        await office.delivers_messages()
        office.later(days=1)
    assert commitments[0] == "at risk"
    assert "late" in commitments
    rows = [row for row in await office.outbox("slack") if ":slip:" in row.dedupe_key]
    signs = [sign for row in rows for sign in signs_in(row.payload)]
    assert [sign for sign in signs if sign.kind == "commitment"] == [Sign("commitment", "late")], (
        "what else slips is news alone"
    )

    def well(before: NotifiedSlip, at: datetime) -> NotifiedSlip:
        return before.after((), date(2027, 3, 8), "kept", at, unread=False)

    implementation = progress.standing.implementation
    said = notified_of(implementation.notified, implementation.notified_of_before)
    still = well(said, office.now)
    assert {*still.said} == {"late", "at risk"}
    assert {*well(still, office.now + timedelta(hours=23)).said} == {"late", "at risk"}
    assert well(still, office.now + timedelta(hours=24)) == NotifiedSlip()


async def test_a_date_that_was_promised_anew_and_is_late_is_a_new_slip(office: Office):
    started = await said_late_and_better(office)
    await office.advance(started.progress)
    before = len(await slips(office))
    await office.update(started.progress, "move", which_date="committed", day=date(2027, 3, 2))
    progress = await office.advance(started.progress)
    assert progress.outlook.commitment == "late"
    assert len(await slips(office)) == before + 1


async def test_a_date_that_gets_better_before_it_was_said_is_said_as_it_is_then(office: Office):
    office.now = office.now.replace(hour=15)
    started = await office.start(committed=date(2027, 3, 8))
    await office.advance(started.progress)
    await office.says(started.progress, "kickoff")
    [(status, text)] = await slips(office)
    assert status == "pending"
    assert "is at risk" in text


async def test_a_step_whose_due_day_was_put_off_is_no_new_slip(office: Office):
    started = await office.start()
    office.later(days=1)
    await office.update(
        started.progress, "move", which_date="due", gate="kickoff", day=date(2027, 3, 1)
    )
    await office.advance(started.progress)
    assert ["overdue: Kickoff" in text for _, text in await slips(office)] == [True]
    await office.delivers_messages()
    office.later(minutes=5)
    await office.update(
        started.progress, "move", which_date="due", gate="kickoff", day=date(2027, 3, 2)
    )
    progress = await office.advance(started.progress)
    assert progress.evaluation.late == {"kickoff": "soon"}
    assert len(await slips(office)) == 1


async def stored(office: Office) -> Implementation:
    async with office.store.read() as session:
        return (await session.scalars(select(Implementation))).one()


async def test_what_the_version_before_announced_is_no_news(office: Office):
    await office.start()
    before = (await stored(office)).notified
    office.later(days=2, hours=2)
    await advance_all(office.store, now=office.now)
    announced = await stored(office)
    async with office.store.write() as session:
        # As if the version before had done it: it leaves the column as it is.
        await session.execute(update(Implementation).values(notified=before))
        [slip] = (await session.scalars(select(Outbox).where(is_a("slip")))).all()
        slip.status = "sent"
    office.later(minutes=5)
    await advance_all(office.store, now=office.now)
    assert len(await slips(office)) == 1
    assert (await stored(office)).notified == announced.notified != before


async def test_a_slip_that_two_find_at_once_is_announced_once(office: Office):
    """Each looked before the other wrote down what it had announced."""
    started = await office.start()
    office.later(days=2, hours=2)
    identifier = started.progress.standing.implementation.id
    async with office.store.write() as session:
        first, second = [await queries.load(session, identifier) for _ in range(2)]
        assert first is not None
        assert second is not None
        evaluation, lacks = await advance_in(office.store, session, first, now=office.now)
    for standing in (first, second):
        await forecast_anew(office.store, standing, evaluation, lacks, now=office.now)
    assert len(await slips(office)) == 1
