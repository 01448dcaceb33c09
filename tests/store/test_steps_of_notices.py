"""What a notice is is in columns; its step's name says it only in rows of the version before."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection as SyncConnection
from sqlmodel import col

from linekeeper.notify.evaluate import step_name, step_payload
from linekeeper.notify.steps import Step, step_in, step_of
from linekeeper.settings import Settings
from linekeeper.store import new_id
from linekeeper.store.tables import Notice
from tests.store.filling import fill, migrated

BEFORE = "0063"
NOW = datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
INCIDENT = new_id()
STEPS = [
    *(
        Step("first"),
        Step("reminder", 1),
        Step("reminder", 12),
        Step("escalation"),
    ),
    *(Step("joined", 3), Step("resolved"), Step("never")),
]


def _fill(connection: SyncConnection) -> None:
    incident = {
        "id": INCIDENT, "topic": "health", "kind": "unreachable", "scope": "app", "cause": "c",
        "app": "default", "provider": "", "title": "Acme", "summary": "", "status": "open",
        "detail": {}, "opened_at": NOW, "round": 0, "revision": 0,
    }  # fmt: skip
    notices = [
        {
            "id": new_id(), "incident_id": INCIDENT, "channel": "slack", "step": step_name(step),
            "round": 0, "severity": "normal", "why": "", "at": NOW,
        }
        for step in STEPS
    ]  # fmt: skip
    fill(connection, {"incident": [incident], "notice": notices})


async def test_the_steps_of_before_are_in_their_columns(empty_settings: Settings) -> None:
    async with migrated(empty_settings, BEFORE, _fill) as session:
        rows = await session.execute(
            select(col(Notice.step), col(Notice.step_kind), col(Notice.number))
        )
        assert {(kind, number) for _, kind, number in rows.all()} == {*STEPS}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_what_its_columns_say_or_of_before_its_name(step: Step) -> None:
    assert step_of("whatever:9", *step) == step
    assert step_of(step_name(step), None, None) == step
    assert step_in(step_payload(step)) == step_in({"step": step_name(step)}) == step
