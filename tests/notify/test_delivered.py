"""Which incidents have a message in Slack: of those nobody is notified elsewhere, too."""

import pytest

from linekeeper.clock import utcnow
from linekeeper.notify.groups import delivered_of
from linekeeper.store import Store
from linekeeper.store.tables import Incident, Notice, NoticeMessage


@pytest.mark.soak
async def test_what_was_delivered_is_known_however_many_there_are(store: Store) -> None:
    """Those after the five thousandth were said once more, in fallback channels."""
    now = utcnow()
    incidents = [
        Incident(topic="health", kind="unreachable", scope="connection", cause=f"c{n}",
                 app="default", title=f"c{n}", opened_at=now)
        for n in range(5_050)
    ]  # fmt: skip
    async with store.write() as session:
        session.add_all(incidents)
        await session.flush()
        session.add_all(
            Notice(incident_id=each.id, channel="slack", step="first", step_kind="first", number=0,
                   group_key="cap:x", group_kind="cap", severity="normal", round=0, why="", at=now)
            for each in incidents
        )  # fmt: skip
        session.add(
            NoticeMessage(channel="C1", subject="fold:cap:x", ts="1", place="C1", updated_at=now)
        )
    ids = [each.id for each in incidents]
    async with store.read() as session:
        assert await delivered_of(session, ["C1"], ids) == frozenset(ids)
