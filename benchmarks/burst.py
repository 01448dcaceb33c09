"""How soon people hear, in the middle of a burst.

The real receiver and consumer as processes, with the sandbox behind them: twenty thousand record
events, and in the middle of them logins that break, from their receipt to the incident and to the
message.
"""

import asyncio
import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.peers import BIN, create_database, free_port, postgres, process, sandbox

BURST = 20_000
LOGINS = 10
"""Fewer than make one incident of all of them (`root_cause_together`)."""
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
GOALS = {"incident_p95_s": 1.0, "slack_p95_s": 5.0}


def run() -> dict[str, Any]:
    """The delays in seconds, with the goals beside them."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-burst-") as name:
        folder = Path(name)
        with postgres(folder) as url:
            return {**asyncio.run(_burst(folder, url)), "goals": GOALS}


async def _burst(folder: Path, server: str) -> dict[str, Any]:
    """Logins that break in the middle of a burst: from receipt to incident and to message."""
    url = await create_database(server, "burst")
    with sandbox(folder, connections=40) as makini:
        environment = {
            "LINEKEEPER_HOME": str(folder / "burst"),
            "LINEKEEPER_DATABASE_URL": url,
            "LINEKEEPER_ENCRYPTION_KEYS": KEY,
            "LINEKEEPER_PREFECT_PORT": "1",
            "LINEKEEPER_RECEIVER_PORT": str(free_port()),
            "LINEKEEPER_MAKINI_API_URL": makini,
            "LINEKEEPER_MAKINI_CLIENT_ID": "sandbox-client",
            "LINEKEEPER_MAKINI_CLIENT_SECRET": "sandbox-secret",
            "LINEKEEPER_MAKINI_MODE": "manage",
            "LINEKEEPER_MAKINI_PER_MINUTE": "0",
            "LINEKEEPER_MAKINI_WEBHOOK_SECRETS": "benchmark",
            "LINEKEEPER_SLACK_BOT_TOKEN": "xoxb-sandbox",
            "LINEKEEPER_SLACK_CHANNEL": "#linekeeper",
            "LINEKEEPER_SLACK_API_URL": f"{makini}/slack/api/",
        }
        connections, keys = await _adopt(environment, makini)
        receiver = f"http://127.0.0.1:{environment['LINEKEEPER_RECEIVER_PORT']}"
        with (
            process(
                [str(BIN / "linekeeper"), "receiver"],
                ready=f"{receiver}/healthz",
                log=folder / "receiver.log",
                env=environment,
            ),
            process(
                [str(BIN / "linekeeper"), "consumer"],
                ready=f"{receiver}/healthz",
                log=folder / "consumer.log",
                env=environment,
            ),
        ):
            await _push_burst(receiver, makini, connections, keys)
            return await _delays(environment)


async def _adopt(
    environment: dict[str, str], makini: str
) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """Take the fleet over; connections (Makini's key, name) and the keys of their records."""
    import httpx

    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime
    from linekeeper.store import Store
    from linekeeper.store.migrate import migrate
    from linekeeper.sweep.batch import probe_batch
    from linekeeper.sweep.sweep import due, take_list

    settings = _settings(environment)
    async with Store.open(settings) as store:
        await migrate(store)
    async with Runtime.open(settings) as rt:
        app, now = await rt.app("default"), utcnow()
        await take_list(rt, app, now=now)
        policy = (await rt.configuration()).policy
        for ids in (await due(rt, app, policy, now=now)).batches:
            await probe_batch(rt, app, ids, started=now, last_try=True)
        async with rt.store.read() as session:
            from sqlmodel import select

            from linekeeper.store.tables import Connection

            rows = await session.execute(
                select(Connection.makini_key, Connection.makini_id)
                .where(Connection.setup == "live", Connection.health == "healthy")
                .order_by(Connection.makini_key)
            )
            connections = [(row[0], row[1] or row[0]) for row in rows]
    keys: dict[str, list[str]] = {}
    async with httpx.AsyncClient(base_url=makini, timeout=60) as http:
        for key, _ in connections:
            answer = await http.post(
                "/_control/records",
                json={"connection": key, "entity": "eam/assets", "make": 50, "announce": False},
            )
            [keys[key]] = [value["made"] for value in answer.json()["records"][key].values()]
    return connections, keys


def _settings(environment: dict[str, str]) -> Any:
    from linekeeper.settings import Settings

    values: dict[str, Any] = {
        name.removeprefix("LINEKEEPER_").lower(): value for name, value in environment.items()
    }
    return Settings(**values, _env_file=None)


async def _push_burst(
    receiver: str, makini: str, connections: list[tuple[str, str]], keys: dict[str, list[str]]
) -> None:
    import hashlib
    import hmac

    import httpx

    from linekeeper.clock import utcnow

    gate = asyncio.Semaphore(32)
    limits = httpx.Limits(max_connections=32)

    async with (
        httpx.AsyncClient(base_url=receiver, timeout=30, limits=limits) as http,
        httpx.AsyncClient(base_url=makini, timeout=30) as control,
    ):

        async def post(body: dict[str, Any], path: str = "") -> None:
            raw = json.dumps(body).encode()
            signature = hmac.new(b"benchmark", raw, hashlib.sha256).hexdigest()
            headers = {"x-webhook-signature": signature}
            async with gate:
                answer = await http.post(f"/webhooks/default{path}", content=raw, headers=headers)
            answer.raise_for_status()

        every = BURST // LOGINS
        for start in range(0, BURST, every):
            posts = []
            for number in range(start, min(start + every, BURST)):
                key, _ = connections[LOGINS + number % (len(connections) - LOGINS)]
                record = keys[key][number % len(keys[key])]
                body = {"id": f"b{number}", "event": "assets.updated", "body": [record]}
                posts.append(post(body, f"/{key}"))
            login = start // every
            if login < LOGINS:
                key, identity = connections[login]
                lost = await control.post(f"/_control/connections/{key}/change-credentials")
                lost.raise_for_status()
                body = {
                    "id": f"login{login}",
                    "type": "connection.auth_required",
                    "timestamp": utcnow().isoformat(),
                    "connection_id": identity,
                }
                posts.insert(len(posts) // 2, post(body))
            await asyncio.gather(*posts)


async def _delays(environment: dict[str, str]) -> dict[str, Any]:
    from sqlalchemy import text

    from linekeeper.clock import utcnow
    from linekeeper.store import Store

    statement = text(
        "SELECT event.received_at, incident.opened_at, min(shown.settled_at)"
        " FROM webhook_event event"
        " JOIN incident_connection member ON member.connection_id = event.connection_id"
        " JOIN incident ON incident.id = member.incident_id"
        " LEFT JOIN outbox shown ON shown.channel = 'slack' AND shown.status = 'sent'"
        # A login lost just after another of its provider is told in the thread of that one.
        "   AND (shown.payload->>'do' = 'show'"
        "     AND shown.payload->>'incident_id' = incident.id::text"
        "     OR shown.dedupe_key LIKE '%:alike:' || incident.id)"
        " WHERE event.kind = 'connection.auth_required' GROUP BY 1, 2"
    )
    until = utcnow() + timedelta(seconds=60)
    async with Store.open(_settings(environment)) as store:
        while True:
            async with store.read() as session:
                rows = list(await session.execute(statement))
                left = await session.scalar(
                    text("SELECT count(*) FROM webhook_event WHERE status = 'pending'")
                )
            announced = [row for row in rows if row[2] is not None]
            if (len(announced) >= LOGINS and not left) or utcnow() > until:
                break
            await asyncio.sleep(0.5)
    if len(announced) < LOGINS or left:
        raise SystemExit(f"benchmarks.burst: {len(announced)} of {LOGINS} told, {left} events left")
    return {
        "incident_p95_s": _p95([(row[1] - row[0]).total_seconds() for row in announced]),
        "slack_p95_s": _p95([(row[2] - row[0]).total_seconds() for row in announced]),
    }


def _p95(seconds: list[float]) -> float:
    return round(sorted(seconds)[int(len(seconds) * 0.95)], 2)


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
