"""The answers of a reconnect run's form: each counts once, those of a later run too."""

from collections.abc import Awaitable, Callable

import pytest

from linekeeper.clock import utcnow
from linekeeper.reconnect.ask import advance_case
from linekeeper.reconnect.case import incident_of_run
from linekeeper.reconnect.process import (
    FormAnswer,
    Replaced,
    close,
    next_step,
    take_answer,
    take_up,
)
from linekeeper.reconnect.runs import start_another
from linekeeper.store.tables import Audit, Outbox, Reconnect
from tests.reconnect.conftest import House

Begins = Callable[[House, str], Awaitable[None]]


async def after_a_lost_one(house: House, incident_id: str) -> None:
    assert await start_another(house.rt, incident_id, now=utcnow())


async def by_hand(house: House, incident_id: str) -> None:
    """Beside the one there was."""


@pytest.mark.parametrize("begins", [after_a_lost_one, by_hand])
async def test_the_first_answer_of_another_run_counts(house: House, begins: Begins) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    [incident] = await house.incidents()
    await advance_case(house.rt, incident.id, now=utcnow())
    await take_up(house.rt, incident.id, "first", now=utcnow())
    for number in (1, 2):
        note = FormAnswer("Petra", note=f"note {number}")
        await take_answer(house.rt, incident.id, number, note, now=utcnow())
    await begins(house, incident.id)
    for _ in range(2):  # it begins again from the top each time it is resumed
        await take_up(house.rt, incident.id, "second", now=utcnow())
        given_up = FormAnswer("Olaf", give_up=True)
        await take_answer(house.rt, incident.id, 1, given_up, now=utcnow())
    [case] = await house.rows(Reconnect)
    assert case.outcome == "given_up"
    answers = await house.rows(Audit, Audit.action == "reconnect.answered")
    assert sorted(answer.by for answer in answers) == ["Olaf", "Petra", "Petra"]


async def test_the_first_answer_counts_before_the_run_that_took_over_is_known(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    [incident] = await house.incidents()
    await advance_case(house.rt, incident.id, now=utcnow())
    await take_answer(house.rt, incident.id, 1, FormAnswer("Petra", note="they call"), now=utcnow())
    assert await start_another(house.rt, incident.id, now=utcnow())
    [case] = await house.rows(Reconnect)
    assert case.answers == 0


async def test_a_run_that_takes_the_case_ends_the_one_before_which_never_takes_it_back(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    [incident] = await house.incidents()
    await advance_case(house.rt, incident.id, now=utcnow())
    first, second = "first", "second"
    await take_up(house.rt, incident.id, first, now=utcnow())
    case = await take_up(house.rt, incident.id, second, now=utcnow())
    assert next_step(case, second) == "wait"
    woken = await house.rows(Outbox, Outbox.dedupe_key.like("run:replaced:%"))  # type: ignore[attr-defined]
    assert [row.payload["resume"] for row in woken] == [first, first]
    with pytest.raises(Replaced) as resumed:
        await take_up(house.rt, incident.id, first, now=utcnow())
    assert resumed.value.run_id == second
    with pytest.raises(Replaced):
        next_step(case, first)
    [reconnect] = await house.rows(Reconnect)
    assert (reconnect.run_id, reconnect.replaced_runs) == (second, [first])
    for run_id, known in ((first, incident.id), (second, incident.id), ("firs", None), ("", None)):
        assert await incident_of_run(house.rt.store, run_id) == known


async def test_a_run_that_was_given_up_for_lost_goes_on_only_where_no_other_has_begun(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    [incident] = await house.incidents()
    await advance_case(house.rt, incident.id, now=utcnow())
    await take_up(house.rt, incident.id, "first", now=utcnow())
    assert await start_another(house.rt, incident.id, now=utcnow())
    await take_up(house.rt, incident.id, "first", now=utcnow())
    await take_up(house.rt, incident.id, "second", now=utcnow())
    with pytest.raises(Replaced):
        await take_up(house.rt, incident.id, "first", now=utcnow())


async def test_a_run_whose_case_was_reopened_for_another_loss_never_takes_it_back(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    for number in (1, 2):
        await house.lose_login(connection)
        [incident] = await house.incidents()
        await advance_case(house.rt, incident.id, now=utcnow())
        await take_up(house.rt, incident.id, f"run {number}", now=utcnow())
        if number == 1:
            await house.restore_login(connection)
            await close(house.rt, incident.id, "reconnected", now=utcnow())
    [case] = await house.rows(Reconnect)
    assert (case.attempt, case.run_id) == (2, "run 2")
    with pytest.raises(Replaced) as resumed:
        await take_up(house.rt, incident.id, "run 1", now=utcnow())
    assert resumed.value.run_id == "run 2"
