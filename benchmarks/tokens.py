"""Access tokens for the product: ours beside an app that does nothing, by turns.

64 ask at once, each for the token of one of a thousand connections; every token that was given has
its own row in the audit, which is counted at the end. On SQLite and on PostgreSQL.
"""

import asyncio
import json
import statistics
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.peers import postgres
from benchmarks.receive import Address, database, push, serving
from benchmarks.sender import Load, send, sender

CONNECTIONS = 1_000
SECONDS = 2
ROUNDS = 5
GOALS = {"sqlite_of_nothing": 0.15, "postgresql_of_nothing": 0.15}


def run() -> dict[str, Any]:
    """Rates a second, p99 in ms and the ratios."""
    figures: dict[str, Any] = {"sender": sender()}
    with tempfile.TemporaryDirectory(prefix="linekeeper-tokens-") as name:
        folder = Path(name)
        with serving("nothing", "") as nothing, postgres(folder) as server:
            for kind in ("sqlite", "postgresql"):
                url = database(folder, server if kind == "postgresql" else None)
                measured = _beside(folder, url, nothing)
                figures |= {f"{kind}_{name}": value for name, value in measured.items()}
    return {**figures, "goals": GOALS}


def _beside(folder: Path, url: str, nothing: Address) -> dict[str, Any]:
    rounds: list[tuple[float, dict[str, Any], dict[str, Any]]] = []
    with serving("ours", url) as address:
        load = _load(folder, asyncio.run(_prepare(url)))
        given = _given(send(folder, address, load, seconds=1))
        for _ in range(ROUNDS):
            limit = push(folder, nothing, load, 1)
            ours = push(folder, address, load, SECONDS)
            given += _given(ours)
            rounds.append((ours["per_second"] / limit["per_second"], ours, limit))
    audited = asyncio.run(_audited(url))
    # Who was asked last may not have waited for the answer.
    if not given <= audited <= given + 64 * (ROUNDS + 1):
        raise SystemExit(f"benchmarks.tokens: {given} tokens given, {audited} in the audit")
    ratio, ours, _ = sorted(rounds, key=lambda each: each[0])[ROUNDS // 2]
    return {
        "of_nothing": round(ratio, 3),
        "of_nothing_by_cpu": round(
            statistics.median(other["cpu_us"] / mine["cpu_us"] for _, mine, other in rounds), 3
        ),
        "per_second": ours["per_second"],
        "p99_ms": round(statistics.median(each["p99_ms"] for _, each, _ in rounds), 1),
        "audited": audited,
    }


def _given(sent: dict[str, Any]) -> int:
    if sent["not_200"]:
        raise SystemExit(f"benchmarks.tokens: {sent['not_200']} were refused")
    return int(sent["requests"])


def _load(folder: Path, asked: tuple[str, list[str]]) -> Load:
    key, ids = asked
    requests = [
        f"GET /api/connections/{identifier}/token HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {key}\r\nUser-Agent: product\r\n\r\n".encode()
        for identifier in ids
    ]
    path = folder / "tokens.raw"
    path.write_bytes(b"".join(requests * 50))
    return Load(path, len(requests[0]))


async def _prepare(url: str) -> tuple[str, list[str]]:
    """A key for the product, and connections that have tokens; their ids."""
    from benchmarks.plain import healthy_connections
    from linekeeper.access.keys import make_key
    from linekeeper.clock import utcnow
    from linekeeper.makini import TokenPair
    from linekeeper.store import Store
    from linekeeper.tokens.stored import save_tokens

    now = utcnow()
    connections = healthy_connections(CONNECTIONS)
    ids = [connection.id for connection in connections]
    pairs = {
        identifier: TokenPair("t" * 60, expires_at=now + timedelta(hours=1)) for identifier in ids
    }
    async with Store.open(_settings(url)) as store, store.write() as session:
        key = await make_key(session, "product", ["tokens:read"], by="benchmark", now=now)
        session.add_all(connections)
        await session.flush()
        await save_tokens(store, session, pairs, now=now)
    return key, ids


async def _audited(url: str) -> int:
    from sqlalchemy import text

    from linekeeper.store import Store

    async with Store.open(_settings(url)) as store, store.read() as session:
        statement = text("SELECT count(*) FROM audit WHERE action = 'token.handed_out'")
        return int(await session.scalar(statement) or 0)


def _settings(url: str) -> Any:
    from linekeeper.settings import Settings

    home = Path(tempfile.mkdtemp(prefix="linekeeper-tokens-home-"))
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    return Settings(home=home, database_url=url, encryption_keys=key, _env_file=None)


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
