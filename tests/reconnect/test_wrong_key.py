"""Started with another encryption key: it says so, hands nothing out, and loses nothing."""

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlmodel import col

from linekeeper.access.signing import load_signer
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.runtime import Runtime
from linekeeper.store import KeyProblem, Store
from linekeeper.store.rotate import Rotation, rotate_keys
from linekeeper.store.tables import AppSetting, ConnectLink, Credential
from linekeeper.tokens.stored import load_tokens
from tests.reconnect.conftest import House


def other_key() -> SecretStr:
    return SecretStr(Fernet.generate_key().decode())


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


def stop(_: Rotation) -> None:
    raise Stopped


async def test_with_another_key_no_part_starts_and_nothing_is_lost(house: House) -> None:
    connection, two, *_ = await house.connections()
    headers = await house.key()
    await house.lose_login(connection)
    wrong = house.rt.settings.model_copy(update={"encryption_keys": (other_key(),)})
    with pytest.raises(KeyProblem, match="LINEKEEPER_ENCRYPTION_KEYS"):
        async with Runtime.open(wrong):
            pass
    assert await advance_due_cases(house.rt)  # with the right one it goes on where it was
    assert len(await house.rows(ConnectLink)) == 1
    answer = await house.http.get(f"/api/connections/{two.id}/token", headers=headers)
    assert answer.status_code == 200


async def test_keys_are_rotated_and_the_old_one_can_go_also_after_a_break(house: House) -> None:
    old, new = house.rt.settings.encryption_keys[0], other_key()
    await load_signer(house.store)
    both = house.rt.settings.model_copy(update={"encryption_keys": (new, old)})
    async with Store.open(both) as store:
        with pytest.raises(Stopped):
            await rotate_keys(store, report=stop, portion=2)
        rest = await rotate_keys(store, portion=2)  # it goes on where it was
        assert (rest.seen, rest.changed) == (rest.total, rest.total - 2)
        again = await rotate_keys(store)
        assert (again.seen, again.changed) == (rest.total, 0)
    only_new = house.rt.settings.model_copy(update={"encryption_keys": (new,)})
    async with Store.open(only_new) as store, store.read() as session:
        ids = [connection.id for connection in await house.connections()]
        assert len(await load_tokens(store, session, ids)) == len(ids)
        for kept in await session.scalars(select(col(AppSetting.value))):
            assert store.cipher.decrypt(kept)
        assert await session.scalar(select(func.count()).select_from(AppSetting))


async def test_where_the_receiver_has_not_the_key_the_product_goes_on_with_its_last_token(
    house: House,
) -> None:
    connection, *_ = await house.connections()
    headers = await house.key()
    path = f"/api/connections/{connection.id}/token"
    assert (await house.http.get(path, headers=headers)).status_code == 200
    keys = (other_key(), house.rt.settings.encryption_keys[0])
    both = house.rt.settings.model_copy(update={"encryption_keys": keys})
    async with Store.open(both) as store:
        await rotate_keys(store)
    answer = await house.http.get(path, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30"), answer.text


async def test_a_rotation_that_meets_a_key_nobody_has_stops_and_changes_nothing_of_it(
    house: House,
) -> None:
    before = {row.connection_id: row.access_token for row in await house.rows(Credential)}
    wrong = house.rt.settings.model_copy(update={"encryption_keys": (other_key(),)})
    async with Store.open(wrong) as store:
        with pytest.raises(KeyProblem):
            await rotate_keys(store)
    assert {row.connection_id: row.access_token for row in await house.rows(Credential)} == before
