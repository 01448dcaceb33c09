"""A database made by version 0.1.0 comes to the present schema and loses nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import inspect, select
from sqlmodel import col

from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.migrate import build_schema, migrate
from linekeeper.store.tables import Connection, Incident, IncidentConnection, Outbox, Silence
from tests.store.filling import fill

FIRST = "0001"
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=4)
OUTCOMES = (
    ("pending", None),
    ("sent", None),
    ("dead", "too old"),
    ("sent", "no Slack configured; would have said: Acme is down"),
    ("sent", "withheld: maintenance"),
    ("sent", "said with d1"),
    ("sent", "not needed: part of a wider incident"),
    ("pending", "refused: https://p.example answered 422"),
    ("pending", "gone: https://p.example answered 410 Gone"),
)
"""Status and error of outbox rows as the first version wrote them: some outcomes were prose."""


def _connection(identifier: str, key: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "app": "default",
        "makini_key": key,
        "name": f"Acme {key}",
        "slug": f"acme-{key}",
        "provider": "maximo",
        "email": "it@acme.example",
        "hosting": "cloud",
        "tags": [],
        "setup": "live",
        "health": "unreachable",
        "health_since": NOW,
        "suspect": False,
        "judged": {},
        "created_at": NOW,
    }


def _incident(identifier: str, cause: str, **more: Any) -> dict[str, Any]:
    return {
        "id": identifier,
        "topic": "health",
        "kind": "unreachable",
        "scope": "connection",
        "cause": cause,
        "app": "default",
        "provider": "maximo",
        "title": cause,
        "status": "open",
        "detail": {},
        "opened_at": NOW,
        "revision": 3,
        **more,
    }


async def test_incidents_members_messages_snoozes_and_mutes_are_all_there(
    empty_settings: Settings,
) -> None:
    first, second = new_id(), new_id()
    snoozed, muted, failed, over = new_id(), new_id(), new_id(), new_id()
    silence = new_id()
    rows: dict[str, list[dict[str, Any]]] = {
        "connection": [_connection(first, "k1"), _connection(second, "k2")],
        "incident": [
            _incident(
                snoozed,
                "connection:1:health",
                detail={
                    "snoozed_until": UNTIL.isoformat(),
                    "run_id": "run-1",
                    "connect_url": "https://x.example/connect/t",
                },
            ),
            _incident(
                muted,
                "connection:2:health",
                status="acknowledged",
                acknowledged_at=NOW,
                acknowledged_by="Ada",
                detail={"muted_at": NOW.isoformat(), "muted_until": UNTIL.isoformat()},
            ),
            _incident(
                failed,
                "app:default:list",
                topic="list",
                kind="list_failed",
                scope="app",
                detail={"code": "E1", "message": "it broke", "request_id": "r1", "url": "kept"},
            ),
            _incident(over, "connection:2:health", status="resolved", resolved_at=NOW),
        ],
        "incident_connection": [
            {
                "id": new_id(),
                "incident_id": incident,
                "connection_id": connection,
                "topic": "health",
                "kind": "unreachable",
                "joined_at": NOW,
                "left_at": left,
                "reported_kind": "unreachable",
            }
            for incident, connection, left in (
                (snoozed, first, None),
                (muted, second, None),
                (over, second, NOW),
            )
        ],
        "outbox": [
            {
                "id": new_id(),
                "seq": new_id(),
                "channel": "slack",
                "dedupe_key": f"d{number}",
                "lane": "l",
                "payload": {"n": number},
                "status": status,
                "attempts": number,
                "error": error,
                "created_at": NOW,
                "next_attempt_at": NOW,
            }
            for number, (status, error) in enumerate(OUTCOMES)
        ],
        "silence": [
            {
                "id": silence,
                "kind": "mute",
                "scope": "connection",
                "subject": first,
                "label": "Acme",
                "starts_at": NOW,
                "ends_at": UNTIL,
                "by": "Ada",
                "reason": "planned",
            }
        ],
    }
    async with Store.open(empty_settings) as store:
        async with store.engine.begin() as connection:
            await connection.run_sync(build_schema, FIRST)
            await connection.run_sync(fill, rows)
        before, after = await migrate(store)
        assert before == FIRST
        assert after != FIRST

        async with store.read() as session:
            found = {row.id: row for row in await session.scalars(select(Incident))}
            assert len(found) == 4
            assert found[snoozed].snoozed_until == UNTIL
            assert found[snoozed].run_id == "run-1"
            assert found[snoozed].connect_url == "https://x.example/connect/t"
            assert (found[muted].muted_at, found[muted].muted_until) == (NOW, UNTIL)
            assert (found[muted].status, found[muted].acknowledged_by) == ("acknowledged", "Ada")
            app_wide = found[failed]
            assert (app_wide.code, app_wide.message, app_wide.request_id) == (
                "E1",
                "it broke",
                "r1",
            )
            assert app_wide.detail == {"url": "kept"}
            assert found[over].resolved_at == NOW
            assert all(row.revision == 3 and row.opened_at == NOW for row in found.values())
            members = [
                (row.incident_id, row.connection_id, row.left_at, row.reported_kind)
                for row in await session.scalars(select(IncidentConnection))
            ]
            assert sorted(members, key=str) == sorted(
                [
                    (snoozed, first, None, "unreachable"),
                    (muted, second, None, "unreachable"),
                    (over, second, NOW, "unreachable"),
                ],
                key=str,
            )
            messages = await session.scalars(select(Outbox).order_by(col(Outbox.attempts)))
            assert [
                (row.attempts, row.payload["n"], row.status, row.error, row.refusal)
                for row in messages
            ] == [
                (0, 0, "pending", None, None),
                (1, 1, "sent", None, None),
                (2, 2, "dead", "too old", None),
                (3, 3, "skipped", "Acme is down", None),
                (4, 4, "suppressed", "maintenance", None),
                (5, 5, "superseded", "said with d1", None),
                (6, 6, "skipped", "part of a wider incident", None),
                (7, 7, "pending", "https://p.example answered 422", "refused"),
                (8, 8, "pending", "https://p.example answered 410 Gone", "gone"),
            ]
            window = await session.get(Silence, silence)
            assert window is not None
            assert (window.ends_at, window.by) == (UNTIL, "Ada")
            kept = {row.makini_key: row.health for row in await session.scalars(select(Connection))}
            assert kept == {"k1": "unreachable", "k2": "unreachable"}
        async with store.engine.connect() as connection:
            tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
            assert "incident_entry" in tables
