"""One row nobody can open, one setting that makes no sense: named, and the rest goes on."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.customers.adopt import adopt
from linekeeper.makini import ListedConnection, TokenPair
from linekeeper.orchestrator import Blocks
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store
from linekeeper.store.cipher import Cipher
from linekeeper.store.configuration import load_configuration, save_blocks
from linekeeper.store.rotate import OthersEncrypt, rotate_keys
from linekeeper.store.schema import check_key
from linekeeper.store.tables import AppSetting, Credential, OpenProcess
from linekeeper.tokens.stored import load_tokens, save_tokens, unreadable_tokens
from tests.forking import Forked, python


def sealed_by_others(text: str) -> str:
    return Cipher([Fernet.generate_key().decode()]).encrypt(text)


async def three_connections(store: Store) -> list[str]:
    listed = [ListedConnection(key=f"k{n}", name=f"Acme {n} - UpKeep") for n in range(3)]
    async with store.write() as session:
        ids = (await adopt(store, session, "default", listed, now=utcnow())).ids
        pairs = {ids[key]: TokenPair(f"a-{key}", f"r-{key}", None, minted=False) for key in ids}
        await save_tokens(store, session, pairs, now=utcnow())
    return [ids[f"k{n}"] for n in range(3)]


async def lose_the_key_of(store: Store, connection_id: str) -> None:
    async with store.write() as session:
        await session.execute(
            update(Credential)
            .where(col(Credential.connection_id) == connection_id)
            .values(access_token=sealed_by_others("x"))
        )


async def test_one_row_that_cannot_be_opened_blinds_no_other_and_is_named(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    one, *others = await three_connections(store)
    await lose_the_key_of(store, one)
    async with store.read() as session:
        assert set(await load_tokens(store, session, [one, *others])) == set(others)
        assert await unreadable_tokens(store, session) == [one]
    assert one in caplog.text


async def saved(store: Store) -> None:
    apps = [
        AppConfig(
            name=name,
            api_url="https://api.makini.example",
            link_url="https://link.makini.example",
            client_id="c",
            client_secret="s",
            per_minute=120,
        )
        for name in ("first", "second")
    ]
    policy = HealthPolicy(remind_hours=9)
    await save_blocks(store, Blocks(apps=apps, policy=policy), now=utcnow())


async def spoil(store: Store, name: str, value: str) -> None:
    async with store.write() as session:
        await session.execute(
            update(AppSetting).where(col(AppSetting.name) == f"block:{name}").values(value=value)
        )


async def test_an_app_that_cannot_be_opened_is_not_taken_from_the_environment(
    store: Store, settings: Settings
) -> None:
    """What the environment said at first may have been set otherwise since, such as its mode."""
    managed = settings.model_copy(
        update={
            "makini_api_url": "https://old.makini.example",
            "makini_client_id": "c",
            "makini_mode": "manage",
        }
    )
    app = AppConfig(name="default", api_url="https://api.makini.example", mode="observe")
    await save_blocks(store, Blocks(apps=[app], policy=HealthPolicy()), now=utcnow())
    assert (await load_configuration(store, managed)).apps == {"default": app}
    await spoil(store, "app:default", sealed_by_others("{}"))
    read = await load_configuration(store, managed)
    assert read.apps == {}
    [problem] = read.problems
    assert "app:default" in problem


async def test_one_invalid_setting_breaks_no_process_and_is_named(
    store: Store, settings: Settings
) -> None:
    await saved(store)
    async with store.read() as session:
        row = await session.get_one(AppSetting, "block:app:first")
        text = store.cipher.decrypt(row.value)
    wrong = text.replace('"per_minute":120', '"per_minute":"many"')
    assert wrong != text
    await spoil(store, "app:first", store.cipher.encrypt(wrong))
    configuration = await load_configuration(store, settings)
    assert set(configuration.apps) == {"first", "second"}
    assert configuration.apps["first"].client_id == "c"
    assert configuration.apps["first"].per_minute == AppConfig.model_fields["per_minute"].default
    [problem] = configuration.problems
    assert "app:first" in problem
    assert "per_minute" in problem
    assert "many" not in problem  # it may be a secret


async def test_one_setting_that_cannot_be_opened_leaves_the_others_in_force(
    store: Store, settings: Settings
) -> None:
    await saved(store)
    await spoil(store, "app:first", sealed_by_others("{}"))
    configuration = await load_configuration(store, settings)
    assert set(configuration.apps) == {"second"}
    assert configuration.policy.remind_hours == 9
    [problem] = configuration.problems
    assert "app:first" in problem
    await saved(store)  # the next copy of the blocks writes it anew
    assert (await load_configuration(store, settings)).problems == ()


async def test_where_no_setting_can_be_opened_the_keys_are_somebody_elses(
    store: Store, settings: Settings
) -> None:
    await saved(store)
    for name in ("app:first", "app:second", "policy"):
        await spoil(store, name, sealed_by_others("{}"))
    with pytest.raises(KeyProblem):
        await load_configuration(store, settings)


async def test_a_rotation_names_what_no_key_opens_and_goes_on(store: Store) -> None:
    one, *_ = await three_connections(store)
    await lose_the_key_of(store, one)
    done = await rotate_keys(store, portion=2)
    assert done.unreadable == [f"credential {one}"]
    assert done.seen == done.total
    assert not done.is_complete


@asynccontextmanager
async def process_with(settings: Settings, key: str, writes: str) -> AsyncIterator[Forked]:
    """Another process that has the database open with `key`, and writes when it is told to."""
    environment = {
        **os.environ,
        "LINEKEEPER_HOME": str(settings.home),
        "LINEKEEPER_DATABASE_URL": settings.resolved_database_url,
        "LINEKEEPER_ENCRYPTION_KEYS": key,
    }
    process = await python("tests.store.writing", writes, env=environment, has_stdin=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"open\n"
        yield process
    finally:
        process.stdin.close()
        with suppress(ProcessLookupError):  # it has ended
            process.kill()
        await process.wait()


def answer(process: Forked) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def test_a_rotation_names_a_silent_process_with_the_old_key_until_it_has_ended(
    store: Store, settings: Settings
) -> None:
    one, *_ = await three_connections(store)
    old = settings.encryption_keys[0].get_secret_value()
    await check_key(store)
    rotating = Store(store.engine, Cipher([Fernet.generate_key().decode(), old]))
    async with process_with(settings, old, one) as process:
        done = await rotate_keys(rotating)
        [writer] = done.writers
        assert (writer.kind, writer.is_silent) == ("flow run", False)
        assert f"(process {process.pid})" in str(writer)
        assert done.written_since == []  # it wrote nothing: its rows would not have told
        assert not done.is_complete
        answer(process)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"written\n"
        rotation = asyncio.create_task(rotate_keys(rotating, look_again_after=60))
        await asyncio.sleep(0)
        answer(process)  # now it ends, and the rotation has waited for it
        assert (await rotation).is_complete
    async with rotating.read() as session:
        row = await session.get_one(Credential, one)
    assert rotating.cipher.is_first(row.access_token)


async def test_nothing_is_encrypted_anew_beside_a_process_that_could_not_read_it(
    store: Store, settings: Settings
) -> None:
    one, *_ = await three_connections(store)
    old = settings.encryption_keys[0].get_secret_value()
    rotating = Store(store.engine, Cipher([Fernet.generate_key().decode(), old]))
    async with process_with(settings, old, one) as process:
        with pytest.raises(OthersEncrypt, match=f"process {process.pid}"):
            await rotate_keys(rotating, alone_within=0.0)
        async with rotating.read() as session:
            row = await session.get_one(Credential, one)
        assert store.cipher.is_first(row.access_token)
        process.kill()
        await process.wait()
    async with store.write() as session:
        at = await store.clock(session) - timedelta(minutes=5)
        await session.execute(update(OpenProcess).values(at=at, life=None))
    done = await rotate_keys(rotating, alone_within=0.0)  # a dead one reads nothing
    assert (done.changed, [each.is_silent for each in done.writers]) == (done.seen, [True])


async def test_a_process_of_this_machine_that_was_killed_is_waited_for_no_more(
    store: Store, settings: Settings
) -> None:
    """One that only stands still may go on, and is named."""
    one, *_ = await three_connections(store)
    old = settings.encryption_keys[0].get_secret_value()
    rotating = Store(store.engine, Cipher([Fernet.generate_key().decode(), old]))
    async with process_with(settings, old, one) as process:
        process.send_signal(signal.SIGSTOP)
        assert [each.process_id for each in (await rotate_keys(rotating)).writers] == [process.pid]
        process.kill()
        await process.wait()
        assert (await rotate_keys(rotating)).is_complete
        async with store.write() as session:  # its id is another's by now
            await session.execute(update(OpenProcess).values(process_id=os.getpid()))
        assert (await rotate_keys(rotating)).is_complete
        async with store.write() as session:  # of another container, or from before a restart
            life = col(OpenProcess.life)
            await session.execute(update(OpenProcess).values(life="x" + life))
        assert len((await rotate_keys(rotating)).writers) == 1


async def test_a_process_elsewhere_with_the_old_key_that_was_killed_counts_until_an_hour_later(
    store: Store, settings: Settings
) -> None:
    one, *_ = await three_connections(store)
    old = settings.encryption_keys[0].get_secret_value()
    rotating = Store(store.engine, Cipher([Fernet.generate_key().decode(), old]))
    async with process_with(settings, old, one) as process:
        process.kill()
        await process.wait()
    for minutes, silent in ((5, True), (59, True), (61, None)):
        async with store.write() as session:
            at = await store.clock(session) - timedelta(minutes=minutes)
            await session.execute(update(OpenProcess).values(at=at, life=None))
        assert [each.is_silent for each in (await rotate_keys(rotating)).writers] == [
            value for value in (silent,) if value is not None
        ]


async def test_a_process_with_the_old_key_alone_does_not_start_after_the_rotation(
    store: Store, settings: Settings
) -> None:
    old = settings.encryption_keys[0].get_secret_value()
    async with Runtime.open(settings):
        pass
    assert (
        await rotate_keys(Store(store.engine, Cipher([Fernet.generate_key().decode(), old])))
    ).is_complete
    with pytest.raises(KeyProblem):
        async with Runtime.open(settings):
            pass
    async with store.read() as session:
        assert list(await session.scalars(select(OpenProcess))) == []
