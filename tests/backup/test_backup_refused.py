"""What is no backup of ours, or not whole, or of other keys, is refused, and nothing is written."""

import gzip
import hashlib
from pathlib import Path

import orjson
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from linekeeper.access.keys import find_holder, list_keys, make_key
from linekeeper.backup import BackupError, read_header, restore
from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store
from linekeeper.store.cipher import Cipher, fingerprint
from tests.backup.test_backup import NOW, empty, filled, taken
from tests.databases import KEY

__all__ = ["empty", "filled"]  # fixtures


async def test_the_keys_are_not_in_the_file_and_nobody_else_may_read_it(
    filled: Store, settings: Settings, tmp_path: Path
) -> None:
    file = await taken(filled, settings, tmp_path / "b")
    assert file.stat().st_mode & 0o777 == 0o600
    plain = gzip.decompress(file.read_bytes())
    for secret in (KEY.get_secret_value(), "access", "refresh"):
        assert f'"{secret}"'.encode() not in plain
    assert KEY.get_secret_value().encode() not in plain
    assert read_header(file).keys == (fingerprint(KEY.get_secret_value()),)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


async def test_another_key_is_refused_and_nothing_is_written(
    filled: Store, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    file = await taken(filled, settings, tmp_path / "b")
    other = SecretStr(Fernet.generate_key().decode())
    wrong = empty.model_copy(update={"encryption_keys": (other,)})
    async with Store.open(wrong) as store:
        with pytest.raises(KeyProblem, match=fingerprint(KEY.get_secret_value())):
            await restore(store, file, by="me", now=NOW)
        assert await tables(store) == []


async def test_a_secret_an_older_key_wrote_needs_that_key_too(
    filled: Store, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    newer = SecretStr(Fernet.generate_key().decode())
    both = settings.model_copy(update={"encryption_keys": (newer, KEY)})
    async with Store.open(both) as rotating:
        file = await taken(rotating, both, tmp_path / "b")
    only = empty.model_copy(update={"encryption_keys": (newer,)})
    async with Store.open(only) as store:
        with pytest.raises(KeyProblem, match=fingerprint(KEY.get_secret_value())):
            await restore(store, file, by="me", now=NOW)
        assert await tables(store) == []


async def tables(store: Store) -> list[str]:
    """What is in the database."""
    from sqlalchemy import inspect

    async with store.engine.connect() as connection:
        return await connection.run_sync(lambda sync: inspect(sync).get_table_names())


async def test_a_part_of_a_file_is_refused(
    filled: Store, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    whole = await taken(filled, settings, tmp_path / "b")
    part = tmp_path / "part"
    async with Store.open(empty) as store:
        for share in (0.0, 0.2, 0.6, 0.999):
            part.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
            with pytest.raises(BackupError):
                await restore(store, part, by="me", now=NOW)
        assert await tables(store) == []


async def test_a_file_that_lost_its_last_lines_or_had_one_changed_is_refused(
    filled: Store, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    lines = gzip.decompress((await taken(filled, settings, tmp_path / "b")).read_bytes())
    shorter = b"\n".join(lines.split(b"\n")[:-2]) + b"\n"
    for number, forged in enumerate((shorter, lines.replace(b'"SAP"', b'"SAQ"'))):
        file = tmp_path / f"forged{number}"
        file.write_bytes(gzip.compress(forged))
        async with Store.open(empty) as store:
            with pytest.raises(BackupError, match="not whole"):
                await restore(store, file, by="me", now=NOW)
            assert await tables(store) == []


async def test_what_is_no_backup_is_refused(empty: Settings, tmp_path: Path) -> None:
    text_file, zipped = tmp_path / "a.txt", tmp_path / "a.gz"
    text_file.write_text("hello")
    zipped.write_bytes(gzip.compress(b"hello\n"))
    async with Store.open(empty) as store:
        for file in (text_file, zipped, tmp_path / "missing", tmp_path):
            with pytest.raises(BackupError):
                await restore(store, file, by="me", now=NOW)


async def test_a_backup_of_a_newer_schema_is_refused(
    filled: Store, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    file = await taken(filled, settings, tmp_path / "b")
    newer = tmp_path / "newer"
    newer.write_bytes(gzip.compress(_resealed(gzip.decompress(file.read_bytes()), schema="9999")))
    async with Store.open(empty) as store:
        with pytest.raises(BackupError, match="newer Linekeeper"):
            await restore(store, newer, by="me", now=NOW)
        assert await tables(store) == []


def _resealed(plain: bytes, **changes: object) -> bytes:
    """`plain` with `changes` in its header, sealed as only a holder of the key can."""
    lines = plain.rstrip(b"\n").split(b"\n")
    lines[0] = orjson.dumps({**orjson.loads(lines[0]), **changes})
    body = b"".join(line + b"\n" for line in lines[:-1])
    end = orjson.loads(lines[-1])
    seal = Cipher([KEY.get_secret_value()]).seals("linekeeper backup")[0]
    seal.update(body)
    end["end"]["hmac"] = seal.hexdigest()
    return body + orjson.dumps(end) + b"\n"


def _as_the_first_version_wrote_it(plain: bytes) -> bytes:
    """The same rows in format 1: whoever alters them can seal them again."""
    lines = plain.rstrip(b"\n").split(b"\n")
    lines[0] = orjson.dumps({**orjson.loads(lines[0]), "linekeeper_backup": 1})
    body = b"".join(line + b"\n" for line in lines[:-1])
    rows = orjson.loads(lines[-1])["end"]["rows"]
    seal = hashlib.sha256(body).hexdigest()
    return body + orjson.dumps({"end": {"rows": rows, "sha256": seal}}) + b"\n"


async def test_a_planted_key_does_not_come_back(
    filled: Store, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    async with filled.write() as session:
        made = await make_key(session, "product", (), by="me", now=NOW)
    planted = "lk_" + "x" * 43
    swap = (hashlib.sha256(made.encode()).hexdigest(), hashlib.sha256(planted.encode()).hexdigest())
    genuine = gzip.decompress((await taken(filled, settings, tmp_path / "b")).read_bytes())
    altered = genuine.replace(*(digest.encode() for digest in swap))
    assert altered != genuine

    forged, old = tmp_path / "forged", tmp_path / "old"
    forged.write_bytes(gzip.compress(altered))
    old.write_bytes(gzip.compress(_as_the_first_version_wrote_it(altered)))
    async with Store.open(empty) as store:
        with pytest.raises(BackupError, match="don't match its seal"):
            await restore(store, forged, by="me", now=NOW, accept_unsigned=True)
        with pytest.raises(BackupError, match="--accept-unsigned"):
            await restore(store, old, by="me", now=NOW)
        assert await tables(store) == []
        done = await restore(store, old, by="me", now=NOW, accept_unsigned=True)
        assert (done.header.is_signed, done.revoked_keys) == (False, 1)
        async with store.read() as session:
            assert [key.name for key in await list_keys(session)] == ["product"]
            for key in (made, planted):
                assert await find_holder(session, key) is None


async def test_a_backup_that_an_older_key_sealed_is_taken_while_that_key_is_there(
    filled: Store, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    file = await taken(filled, settings, tmp_path / "b")
    newer = SecretStr(Fernet.generate_key().decode())
    async with Store.open(empty.model_copy(update={"encryption_keys": (newer, KEY)})) as store:
        assert (await restore(store, file, by="me", now=NOW)).header.is_signed
