"""The answers of a reconnect run's form: each counts once, those of a later run too."""

from collections.abc import Awaitable, Callable

import pytest

from linekeeper.clock import utcnow
from linekeeper.reconnect.ask import attend
from linekeeper.reconnect.process import Answer, take_answer, take_up
from linekeeper.reconnect.runs import start_another
from linekeeper.store.tables import Audit, Reconnect
from tests.reconnect.conftest import House

Begins = Callable[[House, str], Awaitable[None]]


async def after_a_lost_one(house: House, incident_id: str) -> None:
    assert await start_another(house.rt, incident_id, now=utcnow())


async def by_hand(house: House, incident_id: str) -> None:
    """Beside the one there was."""


@pytest.mark.parametrize("begins", [after_a_lost_one, by_hand])
async def test_the_first_answer_of_another_run_counts(house: House, begins: Begins) -> None:
    [one, *_] = await house.connections()
    await house.lose_login(one)
    [incident] = await house.incidents()
    await attend(house.rt, incident.id, now=utcnow())
    await take_up(house.rt, incident.id, "first", now=utcnow())
    for number in (1, 2):
        note = Answer("Petra", note=f"note {number}")
        await take_answer(house.rt, incident.id, number, note, now=utcnow())
    await begins(house, incident.id)
    for _ in range(2):  # it begins again from the top each time it is resumed
        await take_up(house.rt, incident.id, "second", now=utcnow())
        given_up = Answer("Olaf", give_up=True)
        await take_answer(house.rt, incident.id, 1, given_up, now=utcnow())
    [case] = await house.rows(Reconnect)
    assert case.outcome == "given_up"
    answers = await house.rows(Audit, Audit.action == "reconnect.answered")
    assert sorted(answer.by for answer in answers) == ["Olaf", "Petra", "Petra"]


async def test_the_first_answer_counts_before_the_run_that_took_over_is_known(
    house: House,
) -> None:
    [one, *_] = await house.connections()
    await house.lose_login(one)
    [incident] = await house.incidents()
    await attend(house.rt, incident.id, now=utcnow())
    await take_answer(house.rt, incident.id, 1, Answer("Petra", note="they call"), now=utcnow())
    assert await start_another(house.rt, incident.id, now=utcnow())
    [case] = await house.rows(Reconnect)
    assert case.answers == 0
