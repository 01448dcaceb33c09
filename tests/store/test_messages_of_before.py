"""What messages of before say in their keys alone is in columns afterwards, and found till then."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection as SyncConnection
from sqlmodel import col

from linekeeper.outbox.about import (
    app_column,
    attempt_of,
    destination_column,
    destination_of,
    is_a,
    is_about_connection,
    is_about_incident,
    is_for,
)
from linekeeper.outbox.queue import OUTBOX
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.migrate import build_schema, migrate
from linekeeper.store.tables import Outbox
from tests.store.filling import fill

BEFORE = "0058"
NOW = datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
PROJECT, OTHER, RUN, INCIDENT, CUSTOMER, CONNECTION = (new_id() for _ in range(6))
WAKE = f"implementation:{PROJECT}:wake:{RUN}:7:{CONNECTION},:running"
MAIL = {"incident_id": INCIDENT, "customer_id": CUSTOMER}
TARGET = f"forward:default@eu/{CONNECTION}"
KEYS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    WAKE: ("run", "pending", "", {}),
    f"{WAKE}:at:202611301200:20261130093000000000": ("run", "pending", "", {}),
    f"implementation:{OTHER}:wake:{RUN}:7::running": ("run", "pending", "", {}),
    f"after:{RUN}:2026113009": ("run", "sent", "", {}),
    "slack:say:test": ("slack", "pending", "", {"do": "say"}),
    f"slack:say:implementation:{PROJECT}:slip:1": ("slack", "pending", "", {"do": "say"}),
    "slack:say:digest:2026-11-29": ("slack", "sent", "", {"do": "say"}),
    f"slack:incident:{INCIDENT}:first": ("slack", "pending", "", {"do": "show"}),
    f"email:{INCIDENT}:2:{CUSTOMER}:ask:{new_id()}": ("email", "sent", "", {"do": "ask", **MAIL}),
    "email:setup:link:0": ("email", "pending", "", {"do": "setup", "customer_id": CUSTOMER}),
    f"forward:{new_id()}": ("forward", "dead", TARGET, {}),
    "forward:unrouted": ("forward", "pending", "forward:default/default/key", {}),
    f"elsewhere:aa:{INCIDENT}:first": ("elsewhere", "sent", "", {"items": []}),
}
[LOOK] = (key for key in KEYS if ":at:" in key)
[FORWARD] = (key for key, row in KEYS.items() if row[2] == TARGET)
[ASK] = (key for key in KEYS if ":ask:" in key)
SLIP, DIGEST = f"slack:say:implementation:{PROJECT}:slip:1", "slack:say:digest:2026-11-29"


def _fill(connection: SyncConnection) -> None:
    rows = [
        {
            "id": (row_id := new_id()), "seq": row_id, "channel": channel, "dedupe_key": key,
            "lane": lane or key, "payload": payload,
            "status": status, "attempts": 0, "created_at": NOW, "next_attempt_at": NOW,
        }
        for key, (channel, status, lane, payload) in KEYS.items()
    ]  # fmt: skip
    fill(connection, {"outbox": rows})


@pytest.fixture
async def migrated(empty_settings: Settings):
    """A store with rows of before, that was migrated."""
    async with Store.open(empty_settings) as store:
        async with store.engine.begin() as connection:
            await connection.run_sync(build_schema, BEFORE)
            await connection.run_sync(_fill)
        assert (await migrate(store))[0] == BEFORE
        yield store


async def test_the_columns_of_what_is_still_asked_for_are_filled(migrated: Store) -> None:
    async with migrated.read() as session:
        rows = {row.dedupe_key: row for row in await session.scalars(select(Outbox))}
    assert {key: (row.kind, row.subject) for key, row in rows.items() if row.kind} == {
        WAKE: ("wake", PROJECT),
        LOOK: ("look", PROJECT),
        f"implementation:{OTHER}:wake:{RUN}:7::running": ("wake", OTHER),
        f"after:{RUN}:2026113009": ("follow_up", RUN),
        "slack:say:test": ("say", None),
        SLIP: ("slip", PROJECT),
        DIGEST: ("digest", None),
        ASK: ("mail", INCIDENT),
    }
    assert rows[ASK].payload == {"do": "ask", **MAIL, "attempt": 2}
    forward, unrouted = rows[FORWARD], rows["forward:unrouted"]
    assert (forward.app, forward.destination, forward.subject) == (
        "default",
        "default@eu",
        CONNECTION,
    )
    assert (unrouted.app, unrouted.destination, unrouted.subject) == ("default", "default", None)


@pytest.mark.parametrize("is_written_by_the_version_before", [False, True])
async def test_each_is_found_by_what_it_is_for_also_where_the_version_before_writes_it(
    migrated: Store, is_written_by_the_version_before: bool
) -> None:
    if is_written_by_the_version_before:
        async with migrated.write() as session:
            nothing = dict.fromkeys(("kind", "subject", "app", "destination"))
            await session.execute(update(Outbox).values(**nothing))
    slack = col(Outbox.channel) == "slack"
    forwards = col(Outbox.channel) == "forward"
    is_sqlite = migrated.is_sqlite
    sought = [
        (is_a("wake", "look", subject=PROJECT), {WAKE, LOOK}),
        (is_a("look", subject=PROJECT), {LOOK}),
        (is_a("slip", subject=PROJECT), {SLIP}),
        (is_a("slip", subject=OTHER), set()),
        (is_a("say", "slip", "digest") & slack, {"slack:say:test", SLIP, DIGEST}),
        (is_a("digest"), {DIGEST}),
        (is_a("follow_up", subject=RUN), {f"after:{RUN}:2026113009"}),
        (is_a("mail", subject=INCIDENT), {ASK}),
        (forwards & is_about_connection(CONNECTION), {FORWARD}),
        ((col(Outbox.channel) == "elsewhere") & is_about_incident(INCIDENT), {
            f"elsewhere:aa:{INCIDENT}:first"
        }),
        (forwards & is_for("default@eu"), {FORWARD}),
        (forwards & is_for("default"), {"forward:unrouted"}),
        (forwards & (app_column(is_sqlite=is_sqlite) == "default"), {FORWARD, "forward:unrouted"}),
        (forwards & (destination_column(is_sqlite=is_sqlite) == "default@eu"), {FORWARD}),
    ]  # fmt: skip
    async with migrated.read() as session:
        for which, expected in sought:
            found = await session.scalars(select(OUTBOX.c.dedupe_key).where(which))
            assert set(found) == expected, which
        [forward] = await session.scalars(select(Outbox).where(col(Outbox.dedupe_key) == FORWARD))
        assert destination_of(forward.destination, forward.ordering_key) == "default@eu"
        assert attempt_of(MAIL, ASK) == 2


async def test_nothing_but_the_columns_counts_where_this_version_writes(migrated: Store) -> None:
    """A key may be made of anything, as it is only written and compared."""
    async with migrated.write() as session:
        await session.execute(delete(Outbox))
        for key in (WAKE, LOOK, SLIP, DIGEST, "slack:say:test", ASK, f"after:{RUN}:1"):
            session.add(Outbox(channel="slack", dedupe_key=key, ordering_key=TARGET, kind=""))
    sought = [
        is_a("wake", "look", subject=PROJECT),
        is_a("say", "slip", "digest"),
        is_a("follow_up", subject=RUN),
        is_a("mail", subject=INCIDENT),
        is_about_connection(CONNECTION),
        is_about_incident(INCIDENT),
    ]
    async with migrated.read() as session:
        for which in sought:
            assert (await session.scalars(select(OUTBOX.c.id).where(which))).all() == []
