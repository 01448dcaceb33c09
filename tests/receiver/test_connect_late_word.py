"""A login whose status still says `fail`: that word is from before the login."""

import pytest

from tests.receiver.test_connect import link_for, through
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


@pytest.mark.parametrize("is_lost", [False, True])
async def test_nobody_is_asked_for_a_login_that_was_just_made_before_a_read_is_refused(
    house: House, is_lost: bool
) -> None:
    """Of two systems a customer logs in to the one that was not asked for."""
    connection, other, *_ = await house.connections()
    await house.lose_login(connection)
    await house.control(f"connections/{other.makini_key}/change-credentials")
    await house.control(f"connections/{other.makini_key}/lag-status")
    await house.control(f"connections/{other.makini_key}/restore-credentials")
    _, path = await link_for(house, connection)
    assert (await through(house, path, other.makini_key)).status_code == 409
    held = await house.connection(other.id)
    assert (held.health, held.suspect) == ("healthy", True)
    assert len(await house.incidents()) == 1

    if is_lost:
        await house.control(f"connections/{other.makini_key}/change-credentials")
    await house.sweep()
    expected = "reauthorization_required" if is_lost else "healthy"
    assert (await house.connection(other.id)).health == expected


async def test_a_login_that_is_lost_stays_so_until_something_says_otherwise(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await house.control(f"connections/{connection.makini_key}/lag-status")
    _, path = await link_for(house, connection)
    await through(house, path, connection.makini_key)
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    await house.sweep()
    assert (await house.connection(connection.id)).health == "healthy"
