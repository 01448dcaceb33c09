"""`linekeeper tokens`: in from a file, out to a key that only the operator has."""

import asyncio
import base64
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import func, select
from sqlmodel import col

import sandbox
from linekeeper.cli.tokens import IN_ONE_GO
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection
from linekeeper.sweep.sweep import take_list
from tests.backup.test_file import synced
from tests.cli.commands import CommandLine
from tests.forking import python

__all__ = ["synced"]
PUBLIC = "age1834kjnelledpe8j3jwapsrzd7cv2v2ery49m964p9fgn5g5x259saepdwa"
SECRET = "AGE-SECRET-KEY-1GRQGX7ACEEN363PZGX05ERMXLJRYTQUL7HGD78DPLJN5JL8QU0RQREENNK"
"""A pair made by another implementation of age, which also opened what ours encrypts."""
LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)


def unseal(file: bytes) -> bytes:
    """What an age file for PUBLIC holds, read by the specification."""
    header, _, rest = file.partition(b"\n---")
    _, stanza, body = header.split(b"\n")
    payload = rest.partition(b"\n")[2]
    bits = "".join(f"{LETTERS.index(c):05b}" for c in SECRET.lower().rpartition("1")[2][:-6])
    raw = bytes(int(bits[i : i + 8], 2) for i in range(0, 256, 8))
    mine = X25519PrivateKey.from_private_bytes(raw)
    share = base64.b64decode(stanza.split()[2] + b"=")
    public = mine.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    shared = mine.exchange(X25519PublicKey.from_public_bytes(share))
    wrap = derive(shared, share + public, b"age-encryption.org/v1/X25519")
    sealed = base64.b64decode(body + b"=" * (-len(body) % 4))
    file_key = ChaCha20Poly1305(wrap).decrypt(bytes(12), sealed, None)
    key = ChaCha20Poly1305(derive(file_key, payload[:16], b"payload"))
    chunks = [payload[i : i + 65_552] for i in range(16, len(payload), 65_552)]
    return b"".join(
        key.decrypt(n.to_bytes(11, "big") + bytes([n == len(chunks) - 1]), chunk, None)
        for n, chunk in enumerate(chunks)
    )


async def test_what_was_taken_is_given_back_to_the_key_alone(
    command: CommandLine, tmp_path: Path, synced: list[str]
) -> None:
    out = tmp_path / "back.age"
    async with sandbox.serving(sandbox.Settings(port=0, connections=2)) as makini:
        command.set(
            MAKINI_API_URL=makini.url,
            MAKINI_CLIENT_ID="sandbox-client",
            MAKINI_CLIENT_SECRET="sandbox-secret",
            MAKINI_MODE="manage",
        )
        await asyncio.to_thread(command.migrated)
        [first, second] = makini.world.connections.values()
        pair = makini.world.tokens.pair(first)
        given = json.dumps({"access_token": pair.access, "refresh_token": pair.refresh})
        added = await asyncio.to_thread(
            command,
            *("connection", "add", "--key", first.key, "--tokens-file", "-", "--no-check"),
            stdin=given,
        )
        assert added.code == 0, added.err
        entry = {"connection": first.key, **json.loads(given)}
        other = {"connection": second.key, "access_token": "x"}
        taken = await asyncio.to_thread(
            command, "tokens", "import", "-", stdin=json.dumps({"tokens": [entry, other]})
        )
        assert taken.code == 1
        assert "1 token imported, 1 refused" in taken.out
        export = ("tokens", "export", "--to", PUBLIC, "--confirm", "default", "--out")
        nowhere = await asyncio.to_thread(command, *export, str(tmp_path / "none" / "back.age"))
        assert nowhere.code == 1
        async with Runtime.open() as rt, rt.store.read() as session:
            assert set(await session.scalars(select(Connection.custody))) == {"owned"}
        synced.clear()
        said = await asyncio.to_thread(command, *export, str(out))
        synced[:] = [name for name in synced if not name.startswith("linekeeper.db")]
    assert said.code == 0, said.err
    assert synced == ["back.age.part", tmp_path.name]  # no crash takes it back
    assert pair.refresh.encode() not in out.read_bytes()
    assert out.stat().st_mode & 0o077 == 0
    [back] = json.loads(unseal(out.read_bytes()))["tokens"]
    assert back["connection"] == first.key
    assert (back["access_token"], back["refresh_token"]) == (pair.access, pair.refresh)
    again = await asyncio.to_thread(
        command, "tokens", "export", "--to", PUBLIC, "--out", str(out)
    )  # a script isn't asked
    assert again.code == 0, again.err
    other = await asyncio.to_thread(
        command, "tokens", "export", "--to", PUBLIC, "--confirm", "another"
    )
    assert (other.code, "nothing was done" in other.err) == (1, True)
    wrong = await asyncio.to_thread(
        command, "tokens", "export", "--to", PUBLIC[:-1] + "q", "--confirm", "default"
    )
    assert wrong.code == 1
    assert "age-keygen" in wrong.err


async def test_what_was_verified_stays_when_a_long_import_is_killed(
    command: CommandLine, tmp_path: Path
) -> None:
    """A thousand at sixty calls a minute take twenty minutes; nothing was kept before the end."""
    async with sandbox.serving(sandbox.Settings(port=0, connections=IN_ONE_GO + 20)) as makini:
        command.set(
            MAKINI_API_URL=makini.url,
            MAKINI_CLIENT_ID="sandbox-client",
            MAKINI_CLIENT_SECRET="sandbox-secret",
            MAKINI_MODE="observe",
        )
        await asyncio.to_thread(command.migrated)
        async with Runtime.open() as rt:
            await take_list(rt, await rt.app("default"), now=utcnow())
        pairs = {
            key: makini.world.tokens.pair(connection)
            for key, connection in makini.world.connections.items()
        }
        file = tmp_path / "tokens.json"
        file.write_text(
            json.dumps(
                [{"connection": key, "access_token": pair.access} for key, pair in pairs.items()]
            )
        )
        words = ("tokens", "import", str(file))
        process = await python("linekeeper.cli", *words, env=os.environ)
        assert process.stdout is not None
        said = await process.stdout.readline()
        process.kill()
        await process.wait()
        async with Runtime.open() as rt, rt.store.read() as session:
            lent = await session.scalar(
                select(func.count()).where(col(Connection.custody) == "borrowed")
            )
    assert said.decode() == f"{IN_ONE_GO} of {IN_ONE_GO + 20} tokens, {IN_ONE_GO} imported\n"
    assert lent is not None
    assert lent >= IN_ONE_GO
