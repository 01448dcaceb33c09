"""A step that is given to another is theirs from then on: what was before was its owner's."""

import pytest

from tests.implementation.conftest import Office


async def test_the_days_before_a_step_was_given_away_stay_its_owners(office: Office) -> None:
    started = await office.start()
    office.later(days=2)
    await office.update(started.progress, "reassign", gate="kickoff", to="customer")
    office.later(days=1)
    progress = await office.advance(started.progress)
    assert progress.evaluation.waited["us"] == pytest.approx(2.0)
    assert progress.evaluation.waited["customer"] == pytest.approx(1.0)
    await office.says(started.progress, "kickoff")
    assert (await office.gate(started.progress, "kickoff")).owner == "customer"


async def test_a_blocked_step_that_is_given_away_stays_blocked(office: Office) -> None:
    started = await office.start()
    office.later(days=1)
    await office.says(
        started.progress, "kickoff", outcome="blocked", evidence="no room", whose_turn="makini"
    )
    office.later(days=1)
    await office.update(started.progress, "reassign", gate="kickoff", to="customer")
    progress = await office.advance(started.progress)
    assert progress.evaluation.statuses["kickoff"] == "blocked"
    office.later(days=1)
    await office.says(started.progress, "kickoff", outcome="carry on", evidence="a room")
    office.later(days=1)
    progress = await office.advance(started.progress)
    assert progress.evaluation.waited == pytest.approx({"us": 1.0, "makini": 2.0, "customer": 1.0})


async def test_a_login_that_was_given_to_us_stays_ours(office: Office) -> None:
    started = await office.start()
    await office.says(started.progress, "kickoff")
    office.later(days=1)
    await office.update(started.progress, "reassign", gate="authentication-1", to="us")
    office.later(days=1)
    progress = await office.advance(started.progress)
    assert (await office.gate(progress, "authentication-1")).owner == "us"
    assert progress.evaluation.waited["customer"] == pytest.approx(1.0)
    await office.connects("Acme", "SAP ECC")
    await office.advance(started.progress)
    assert (await office.gate(progress, "authentication-1")).owner == "us"
