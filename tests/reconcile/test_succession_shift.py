"""A login that gives records the keys that other records had before."""

from hypothesis import given
from hypothesis import strategies as st

from linekeeper.reconcile.succession_steps import freeing_first
from linekeeper.store.tables import Succession
from tests.reconcile.test_succession import (
    ORDERS,
    agrees,
    feed,
    house,
    keys,
    listed,
    logged_in,
    open_house,
    run,
)
from tests.reconnect.conftest import House

__all__ = ["house", "open_house"]  # fixtures


async def followed(house: House, held: dict[str, int]) -> tuple[dict[str, int], list[int]]:
    """What a product holds that follows the feed line by line, and what it wrote over."""
    written_over = []
    for change in await feed(house):
        if change["entity"] == ORDERS and change["op"] == "rekeyed":
            number = held.pop(change["old_key"])
            if change["key"] in held:
                written_over.append(held[change["key"]])
            held[change["key"]] = number
    return held, written_over


async def test_no_rename_takes_a_key_before_it_is_free(house: House) -> None:
    [connection, _] = await house.connections()
    await house.lose_login(connection)
    before = keys(house, listed(house, connection))
    new = await logged_in(house, connection, "shift")
    after = keys(house, listed(house, new))
    assert len(set(before.values()) & set(after.values())) == len(before) - 1
    await run(house)
    held, written_over = await followed(house, {key: number for number, key in before.items()})
    assert written_over == []
    assert held == {key: number for number, key in after.items()}
    await agrees(house, new)


async def test_a_record_that_is_gone_is_the_only_one_written_over(house: House) -> None:
    """`docs/limits.md`: a `deleted` of its key would be about the record that has it now."""
    [connection, _] = await house.connections()
    await house.lose_login(connection)
    was = listed(house, connection)
    before = keys(house, was)
    [gone] = house.fleet.world.change_records(was, ORDERS, delete=1, announce=False)["deleted"]
    new = await logged_in(house, connection, "shift")
    await run(house)
    await run(house, full=True)
    await run(house, full=True)
    held, written_over = await followed(house, {key: number for number, key in before.items()})
    lost = {key: number for number, key in before.items()}[gone]
    assert written_over in ([lost], [])  # nobody took the key of the last one
    assert {n for n in held.values() if n != lost} == set(keys(house, listed(house, new)))
    succession = {row.entity: row for row in await house.rows(Succession)}[ORDERS]
    assert succession.absent == 1
    await agrees(house, new)


@given(st.dictionaries(st.integers(0, 40).map(str), st.integers(0, 40).map(str)))
def test_every_pair_is_there_once_and_only_circles_take_a_key_too_early(
    wanted: dict[str, str],
) -> None:
    pairs = {key: other for key, other in wanted.items() if list(wanted.values()).count(other) == 1}
    ordered = freeing_first(pairs)
    assert sorted(ordered) == sorted(pairs.items())
    place = {key: number for number, (key, _) in enumerate(ordered)}
    for key, other in ordered:
        if other in place and place[other] > place[key]:
            assert is_in_circle(pairs, key)


def is_in_circle(pairs: dict[str, str], key: str) -> bool:
    at = pairs[key]
    while at in pairs and at != key:
        at = pairs[at]
    return at == key
