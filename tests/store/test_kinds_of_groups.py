"""Why several incidents share a message is a column; its key says it only in rows of before."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection as SyncConnection
from sqlmodel import col

from linekeeper.notify.compose_others import plain_group
from linekeeper.notify.groups import load_group
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Incident, Notice
from tests.store.filling import fill, migrated

BEFORE = "0059"
NOW = datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
INCIDENT = new_id()
KINDS = {
    "morning:2026-11-30T07:00:00+00:00": "morning",
    f"cap:{INCIDENT}": "cap",
    f"over:{INCIDENT}": "over",
    "elsewhere:2026-11-30T07:00:00+00:00": "elsewhere",
}


def _fill(connection: SyncConnection) -> None:
    incident = {
        "id": INCIDENT, "topic": "health", "kind": "unreachable", "scope": "app", "cause": "c",
        "app": "default", "provider": "", "title": "Acme", "summary": "", "status": "open",
        "detail": {}, "opened_at": NOW, "round": 0, "revision": 0,
    }  # fmt: skip
    notices = [
        {
            "id": new_id(), "incident_id": INCIDENT, "channel": "slack", "step": f"step {number}",
            "round": 0, "fold": key, "severity": "normal", "why": "", "at": NOW,
        }
        for number, key in enumerate([*KINDS, None])
    ]  # fmt: skip
    fill(connection, {"incident": [incident], "notice": notices})


async def test_the_kinds_of_before_are_in_their_column(empty_settings: Settings) -> None:
    async with migrated(empty_settings, BEFORE, _fill) as session:
        rows = await session.execute(select(col(Notice.group_key), col(Notice.group_kind)))
        assert {row[0]: row[1] for row in rows} == {**KINDS, None: None}


@pytest.mark.parametrize(
    ("key", "stored", "kind", "headline"),
    [
        ("x", "morning", "morning", "Quiet-hours summary: 0 incidents"),
        ("cap:x", "over", "over", "0 incidents that were over before anybody"),
        ("over:x", "cap", "cap", "the hour's limit of messages is reached"),
        ("over:x", None, "over", "0 incidents that were over before anybody"),
        ("morning:x", None, "morning", "Quiet-hours summary: 0 incidents"),
    ],
)
async def test_a_message_is_what_its_column_says_or_of_before_its_key(
    store: Store, key: str, stored: str | None, kind: str, headline: str
) -> None:
    async with store.write() as session:
        incident = Incident(kind="x", scope="app", cause="c", app="default", title="t")
        session.add(incident)
        await session.flush()
        session.add(
            Notice(
                incident_id=incident.id,
                channel="slack",
                step="first",
                group_key=key,
                group_kind=stored,
            )
        )
    group = await load_group(store, key)
    assert group == (kind, [incident.id])
    assert headline in plain_group(group.kind, [])
