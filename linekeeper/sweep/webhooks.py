"""The incidents of the stream of webhooks itself, found by the consumer and by every sweep (W7)."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.outbox.forward import BEGAN, UNTAKEN
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Incident
from linekeeper.sweep.forwards import untaken_since
from linekeeper.sweep.stream import StreamThresholds, StreamTrouble, examine
from linekeeper.sweep.stream_queries import read_streams

TOPIC = "stream"
_POLICY = StreamThresholds()


async def watch_stream(rt: Runtime, now: datetime) -> list[str]:
    """Bring the incidents about webhooks in line with what is seen; returns those that changed.

    Each app and kind of trouble (`linekeeper.sweep.stream.KINDS`) is one incident, open as long
    as it is found; people are notified again when it is twice as bad.
    """
    apps = (await rt.configuration()).apps
    open_kinds: dict[str, set[str]] = {}
    begun: set[tuple[str, str]] = set()
    """The app and kind of each of which it is known since when the product takes nothing."""
    async with rt.store.read() as session:
        rows = await session.execute(
            select(col(Incident.app), col(Incident.kind), col(Incident.detail)).where(
                col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None)
            )
        )
        for app, kind, detail in rows:
            open_kinds.setdefault(app, set()).add(kind)
            if detail.get(BEGAN, ""):
                begun.add((app, kind))
        refusing = [app for app, kinds in open_kinds.items() if "webhooks_forged" in kinds]
        to = [destination for app in apps.values() for destination in app.destinations()]
        streams = await read_streams(session, apps, now=now, refusing=refusing, destinations=to)
    troubles = [
        trouble
        for stream in streams
        for trouble in examine(
            stream, policy=_POLICY, now=now, open_kinds=open_kinds.get(stream.app, ())
        )
    ]
    if not troubles and not open_kinds:
        return []
    async with rt.store.read() as session:
        findings = [
            _finding(trouble, await _began(session, trouble, begun)) for trouble in troubles
        ]
    async with rt.store.write() as session:
        changes = await apply_findings(rt.store, session, TOPIC, findings, now=now, apps=apps)
    return [change.incident_id for change in changes]


async def _began(
    session: AsyncSession, trouble: StreamTrouble, begun: Collection[tuple[str, str]]
) -> dict[str, str | None]:
    """When the product began to take nothing; None while nothing of what waits was tried."""
    if trouble.kind not in UNTAKEN or (trouble.app, trouble.kind) in begun:
        return {}
    since = await untaken_since(session, trouble.app)
    return {BEGAN: since.isoformat() if since is not None else None}


def _finding(trouble: StreamTrouble, detail: dict[str, str | None]) -> Finding:
    return Finding(
        kind=trouble.kind,
        cause=f"app:{trouble.app}:{trouble.kind}",
        app=trouble.app,
        title=f"app {trouble.app} · {trouble.heading}",
        text=trouble.text,
        figure=trouble.figure,
        measure=trouble.measure,
        resolved=trouble.resolved,
        detail=detail,
    )
