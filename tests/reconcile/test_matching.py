"""What a record is recognised by under another key, and when a match is believed. Pure."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from linekeeper.reconcile.identity import (
    content,
    content_hash,
    identifying_fields,
    identity,
    natural_key,
    number,
    source_time,
)
from linekeeper.reconcile.matching import Matching, MatchRow, is_changed, match_records

ORDERS = ("code", "title", "createdAt")
ASSETS = ("serialNumber", "name", "siteKey")


def order(n: int, **fields: Any) -> dict[str, Any]:
    day = f"2025-{n // 28 % 12 + 1:02d}-{n % 28 + 1:02d}"
    return {
        "code": f"WO-{n}",
        "title": f"Inspect pump {n % 7}",
        "createdAt": f"{day}T08:00:00Z",
        "updatedAt": f"{day}T09:{n % 60:02d}:{n // 60 % 60:02d}Z",
        "status": "Open",
        **fields,
    }


def row(key: str, record: dict[str, Any], fields: Sequence[str] = ORDERS) -> MatchRow:
    record = {**record, "key": key}
    text = content(record)
    known_by = identity(record, text, fields)
    return MatchRow(
        key,
        known_by.natural_key,
        source_time(record),
        known_by.plain_hash,
        content_hash(text),
    )


def old_kind(row: MatchRow) -> MatchRow:
    """A row written before natural keys were kept."""
    return row._replace(natural_key=None, plain_hash=None)


def shuffled(rows: list[MatchRow]) -> list[MatchRow]:
    random.Random(4).shuffle(rows)
    return rows


def random_keys(seed: int) -> Callable[[int], str]:
    chance = random.Random(seed)
    keys = [f"{chance.getrandbits(40):014d}" for _ in range(1_000)]
    return keys.__getitem__


def matched(
    old: list[MatchRow], new: list[MatchRow], fields: Sequence[str] = ORDERS
) -> tuple[Matching, dict[str, str]]:
    found = match_records(old, shuffled(new), fields)
    return found, found.pairs


def test_keys_that_end_alike_are_one_record_also_among_twins_and_old_rows() -> None:
    records = [order(n // 2) for n in range(60)]  # each natural key twice
    records += [order(100 + n) for n in range(40)]
    old = [row(f"0117{n:010d}", record) for n, record in enumerate(records)]
    old = [old_kind(one) if n % 5 == 0 else one for n, one in enumerate(old)]
    new = [row(f"0942{n:010d}", record) for n, record in enumerate(records)]
    found, pairs = matched(old, new)
    assert found.rule == "key_suffix"
    assert pairs == {one.key: "0942" + one.key[4:] for one in old}
    assert [found.groups, found.gone, found.unmatched, found.fresh] == [[], [], [], []]


def test_renumbered_keys_whose_ends_meet_by_chance_are_no_rule() -> None:
    records = [order(n) for n in range(100)]
    old = [row(f"10{n:08d}", record) for n, record in enumerate(records)]
    # One is gone, so all behind it moved up by one.
    rest = records[:40] + records[41:]
    new = [row(f"77{n:08d}", record) for n, record in enumerate(rest)]
    found, pairs = matched(old, new)
    assert found.rule == "natural_keys"
    assert found.gone == [old[40].key]
    assert pairs == {f"10{n:08d}": f"77{n - (n > 40):08d}" for n in range(100) if n != 40}


def test_a_key_that_means_another_record_now_is_not_the_same_record() -> None:
    records = [order(n) for n in range(50)]
    old = [row(f"{n:06d}", record) for n, record in enumerate(records)]
    new = [row(f"{(n * 7 + 3) % 50:06d}", record) for n, record in enumerate(records)]
    found, pairs = matched(old, new)
    assert found.rule == "natural_keys"
    assert pairs == {f"{n:06d}": f"{(n * 7 + 3) % 50:06d}" for n in range(50)}


def test_twins_wait_and_everything_else_is_matched() -> None:
    before, after = random_keys(1), random_keys(2)
    records = [order(n) for n in range(100)] + [order(7, notes="its twin")]
    old = [row(before(n), record) for n, record in enumerate(records)]
    new = [row(after(n), record) for n, record in enumerate(records)]
    found, pairs = matched(old, new)
    assert pairs == {before(n): after(n) for n in range(100) if n != 7}
    [(olds, news)] = found.groups
    assert (set(olds), set(news)) == ({before(7), before(100)}, {after(7), after(100)})


def test_what_was_edited_gone_and_made_meanwhile_is_told_apart() -> None:
    before, after = random_keys(1), random_keys(2)
    old = [row(before(n), order(n)) for n in range(60)]
    new = [row(after(n), order(n)) for n in range(60) if n not in (3, 4, 5)]
    edited = order(5, title="Replace pump", updatedAt="2026-01-02T00:00:00Z")
    new += [row(after(5), edited), row(after(99), order(99))]
    found, pairs = matched(old, new)
    assert found.gone == [before(3), before(4)]
    assert found.fresh == [after(99)]
    assert pairs[before(5)] == after(5)
    by_key = {one.key: one for one in new}
    changed = [
        n
        for n, one in enumerate(old)
        if one.key in pairs and is_changed(one, by_key[pairs[one.key]], comparable=True)
    ]
    assert changed == [5]


def test_keys_of_other_records_are_translated_before_they_are_compared() -> None:
    before, after = random_keys(1), random_keys(2)

    def asset(n: int, site: str) -> dict[str, Any]:
        return {"serialNumber": f"S{n % 40}", "name": "Pump", "siteKey": site, "updatedAt": None}

    # Serial numbers 0 to 9 twice, at two sites.
    old = [row(before(n), asset(n, f"old-{n // 25}"), ASSETS) for n in range(50)]
    new = [row(after(n), asset(n, f"new-{n // 25}"), ASSETS) for n in range(50)]
    found, pairs = matched(old, new, ASSETS)
    assert pairs == {before(n): after(n) for n in range(50)}
    assert found.comparable


def test_old_rows_without_natural_keys_are_counted_and_never_guessed() -> None:
    before, after = random_keys(1), random_keys(2)
    same_time = {"updatedAt": "2025-01-01T00:00:00Z"}
    old = [old_kind(row(before(n), order(n, **same_time))) for n in range(30)]
    new = [row(after(n), order(n, **same_time)) for n in range(30)]
    found, pairs = matched(old, new)
    assert (found.rule, pairs) == (None, {})
    assert len(found.unmatched) == len(found.fresh) == 30
    assert found.gone == []


def test_an_entity_without_natural_keys_is_matched_by_the_ends_of_its_keys() -> None:
    records = [{"quantity": n, "unit": "PCE"} for n in range(40)]
    old = [row(f"0117{n * 7:010d}", record, ()) for n, record in enumerate(records)]
    new = [row(f"0942{n * 7:010d}", record, ()) for n, record in enumerate(records)]
    found, pairs = matched(old, new, ())
    assert found.rule == "key_suffix"
    assert len(pairs) == 40


def test_where_all_contents_differ_only_times_say_what_changed() -> None:
    old = [row(f"{n:05d}", order(n, link="https://makini.example/1")) for n in range(30)]
    new = [row(f"{n:05d}", order(n, link="https://makini.example/2")) for n in range(30)]
    found, _ = matched(old, new)
    assert not found.comparable
    assert not any(
        is_changed(one, other, comparable=found.comparable)
        for one, other in zip(old, sorted(new), strict=True)
    )


@pytest.mark.parametrize(
    ("record", "fields", "is_known"),
    [
        ({"code": "WO-1"}, ORDERS, True),
        ({"title": "Pump", "createdAt": "2025-01-01T00:00:00Z"}, ORDERS, True),
        ({"title": "Pump"}, ORDERS, False),
        ({"name": "Pump", "siteKey": "1"}, ASSETS, True),
        ({"siteKey": "1"}, ASSETS, False),
        ({"vendorKey": "1", "orderNo": None}, ("orderNo", "vendorKey"), False),
        ({"name": "Plant"}, ("name",), True),
        ({}, (), False),
    ],
)
def test_a_record_with_too_little_to_tell_it_by_has_no_natural_key(
    record: dict[str, Any], fields: tuple[str, ...], is_known: bool
) -> None:
    assert (natural_key(record, fields) is not None) is is_known


def test_a_number_is_text_any_database_holds() -> None:
    assert number({"code": "  WO-1 "}) == "WO-1"
    assert number({"orderNo": 4500}) == "4500"
    assert number({"code": None, "serialNumber": "\0\ud800x"}) == "?x"
    assert number({"code": True, "orderNo": []}) is None


def test_an_operator_chooses_other_fields() -> None:
    chosen = identifying_fields({"eam/assets": "tag + name"}, "eam/assets")
    assert chosen == ("tag", "name")
    assert identifying_fields({}, "erp/purchase-orders") == ("orderNo", "vendorKey")
    assert identifying_fields({}, "wms/inventories") == ()
