"""What a lease, a setting and a claim are of is in columns; their names say it only of before."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Connection as SyncConnection
from sqlmodel import col, select

from linekeeper.access.listing import forget_listings
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, SlackConfig
from linekeeper.consumer.alive import beat
from linekeeper.inbox.claim import claim_events
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.queue import Message, claim, enqueue, outbox_of
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.configuration import (
    BlockName,
    configured_apps,
    load_configuration,
    read_copies,
    save_blocks,
)
from linekeeper.store.leases import acquire
from linekeeper.store.many_leases import holding_many
from linekeeper.store.tables import AppSetting, Lease, Outbox, WebhookEvent
from tests.store.filling import fill, migrated

BEFORE = "0071"
NOW = datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
ID = new_id()
LEASES = {
    "health-sweep": ("health-sweep", None),
    "consumer:host:7:ab": ("consumer", "host:7:ab"),
    f"token:{ID}": ("token", ID),
    "listing:default": ("listing", "default"),
}
SETTINGS = {
    "block:app:default": ("app", "default"),
    "block:slack": ("slack", None),
    "block:slack:de": ("slack", "de"),
    "block:policy": ("policy", None),
    "listing:default": ("listing", "default"),
    "signing-key": (None, None),
    "retention": (None, None),
}
BLOCKS = Blocks(
    apps=(AppConfig(), AppConfig(name="second")),
    slack=SlackConfig(bot_token="xoxb-1", channel="#line"),
    slack_channels={"de": SlackConfig(bot_token="xoxb-2", channel="#de")},
)


def _fill(connection: SyncConnection) -> None:
    leases = [{"name": name, "owner": "a", "until": NOW, "fence": 1} for name in LEASES]
    settings = [{"name": name, "value": "", "updated_at": NOW} for name in SETTINGS]
    fill(connection, {"lease": leases, "app_setting": settings})


async def test_what_the_names_of_before_say_is_in_their_columns(empty_settings: Settings) -> None:
    async with migrated(empty_settings, BEFORE, _fill) as session:
        for table, expected in ((Lease, LEASES), (AppSetting, SETTINGS)):
            rows = await session.execute(
                select(table.name, table.kind, table.subject).where(col(table.name).in_(expected))
            )
            assert {name: (kind, subject) for name, kind, subject in rows} == expected


async def test_the_copies_are_of_the_blocks_that_their_columns_say(
    store: Store, settings: Settings
) -> None:
    await save_blocks(store, BLOCKS, now=NOW)
    async with store.write() as session:
        for number, row in enumerate(await session.scalars(select(AppSetting.name))):
            if row.startswith("block:"):
                named = update(AppSetting).where(col(AppSetting.name) == row)
                await session.execute(named.values(name=f"x{number}"))
    configuration = await load_configuration(store, settings)
    assert configuration.apps.keys() == {"default", "second"}
    assert configuration.slack_channels.keys() == {"de"}
    assert configuration.slack == BLOCKS.slack


async def test_a_process_of_before_may_copy_a_block_and_each_sees_the_others(
    store: Store, settings: Settings
) -> None:
    await save_blocks(store, BLOCKS, now=NOW)
    async with store.write() as session:  # the version before writes no kind
        new = update(AppSetting).where(col(AppSetting.name) == "block:app:second")
        await session.execute(new.values(kind=None, subject=None))
    assert {block for block, _ in await read_copies(store)} == {
        BlockName("app", "default"),
        BlockName("app", "second"),
        BlockName("slack"),
        BlockName("slack", "de"),
    }
    async with store.read() as session:
        assert await configured_apps(session) == {"default", "second"}
    assert (await load_configuration(store, settings)).apps.keys() == {"default", "second"}
    await save_blocks(store, Blocks(apps=BLOCKS.apps[:1]), now=NOW)
    assert {block for block, _ in await read_copies(store)} == {BlockName("app", "default")}


@pytest.mark.parametrize("kind", ["listing", None])
async def test_every_listing_is_forgotten_and_nothing_else(store: Store, kind: str | None) -> None:
    async with store.write() as session:
        session.add_all(
            AppSetting(name=name, kind=kind, value="", updated_at=NOW)
            for name in ("listing:default", "listing:second")
        )
        session.add(AppSetting(name="retention", value="", updated_at=NOW))
        await session.flush()
        await forget_listings(session)
        names = set(await session.scalars(select(AppSetting.name)))
    assert names >= {"retention"}
    assert not any(name.startswith("listing") for name in names)


@pytest.mark.parametrize(
    "values", [{"name": "x"}, {"kind": None, "subject": None}], ids=["by its kind", "of before"]
)
async def test_a_consumer_that_died_is_known_by_its_kind_and_of_before_by_its_name(
    store: Store, values: dict[str, str | None]
) -> None:
    await beat(store, "a:1")
    past = utcnow() - timedelta(seconds=1)
    async with store.write() as session:
        await session.execute(update(Lease).values(until=past, **values))
    assert await beat(store, "b:2") == ["a:1"]


@pytest.mark.parametrize(
    "values",
    [
        {"claimed_by": "x"},
        {"claimed_by": "a:1/x", "claim_owner": None},
        {"claimed_by": "a:1/x", "claim_owner": "who claimed it before"},
    ],
    ids=["by its owner", "of before", "of before, after this version"],
)
async def test_what_a_dead_consumer_claimed_is_known_by_its_owner_and_of_before_by_its_name(
    store: Store, values: dict[str, str | None]
) -> None:
    async with store.write() as session:
        session.add(
            WebhookEvent(
                app="default", delivery_key="d", kind="x", ordering_key="l", received_at=NOW
            )
        )
        await enqueue(store, session, [Message("slack", "one")], now=NOW)
    await beat(store, "a:1")
    for owner, number in (("a:1", 1), ("b:2", 0), ("b:2", 1)):
        if (owner, number) == ("b:2", 1):
            past = utcnow() - timedelta(seconds=1)
            async with store.write() as session:
                await session.execute(update(Lease).values(until=past))
            assert await beat(store, "b:2") == ["a:1"]
        events = await claim_events(store, owner, rank=1, limit=9, now=utcnow())
        messages = await claim(store, outbox_of("slack"), owner, limit=9, now=utcnow())
        assert (len(events.events), len(messages.rows)) == (number, number)
        if owner == "a:1":
            async with store.write() as session:
                await session.execute(update(WebhookEvent).values(**values))
                await session.execute(update(Outbox).values(**values))


async def test_what_several_hold_is_seen_also_where_the_version_before_holds_it(
    store: Store,
) -> None:
    other = new_id()
    async with holding_many(store, "reconcile", "a", purpose="full") as leases:
        assert await leases.take([ID, other]) == [ID, other]
        async with store.write() as session:
            named = update(Lease).where(col(Lease.name) == f"reconcile:{other}")
            await session.execute(named.values(kind=None, subject=None))
        assert await leases.taken_for("full", [ID, other]) == {ID, other}
        assert await leases.take([ID, other]) == [ID, other]  # its own: it says again what it is
        async with store.read() as session:
            subjects = await session.scalars(select(Lease.subject))
            assert set(subjects) == {ID, other}
    held = await acquire(store, "reconcile", "b", subject=ID, seconds=9, now=utcnow())
    assert held is not None
    assert held.name == f"reconcile:{ID}"
