"""One row nobody can open, one setting that makes no sense: named, and the rest goes on."""

import asyncio

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.tokens import load_tokens, save_tokens, unreadable_tokens
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.customers.adopt import adopt
from linekeeper.makini import ListedConnection, TokenPair
from linekeeper.orchestrator import Blocks
from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store
from linekeeper.store.cipher import Cipher
from linekeeper.store.configuration import load_configuration, save_blocks
from linekeeper.store.rotate import Rotation, rotate_keys
from linekeeper.store.tables import AppSetting, Credential


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


async def test_a_rotation_looks_again_for_what_a_process_with_the_old_key_wrote_meanwhile(
    store: Store, settings: Settings
) -> None:
    one, *_ = await three_connections(store)
    old = settings.encryption_keys[0].get_secret_value()
    keys = Cipher([Fernet.generate_key().decode(), old])
    rotating = Store(store.engine, keys)
    first_look_done = asyncio.Event()
    pair = {one: TokenPair("a-new", "r-new", None, minted=False)}

    def tell(rotation: Rotation) -> None:
        if rotation.seen == rotation.total:
            first_look_done.set()

    async def write_with_the_old_key() -> None:
        await first_look_done.wait()
        async with store.write() as session:
            await save_tokens(store, session, pair, now=utcnow())

    done, _ = await asyncio.gather(
        rotate_keys(rotating, tell=tell, look_again_after=2), write_with_the_old_key()
    )
    assert done.written_since == [f"credential {one}"]
    assert not done.is_complete
    assert (await rotate_keys(rotating)).is_complete
