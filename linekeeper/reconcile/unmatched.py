"""Records of a connection that was replaced which nobody can match but a person."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.incidents.findings import open_incident, resolve_incident
from linekeeper.incidents.lifecycle import Opening
from linekeeper.reconcile.deletion_queries import count_of
from linekeeper.reconcile.succession_queries import held_by
from linekeeper.reconcile.target import PollTarget
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Deletion
from linekeeper.text import counted

TOPIC = "succession"
KIND = "records_unmatched"


async def hold(
    session: AsyncSession,
    target: PollTarget,
    entity: str,
    *,
    ambiguous: int,
    unmatched: int,
    live: int,
) -> None:
    """Make what holds records nobody knows the new key of: they aren't gone by themselves."""
    for status, count in (("ambiguous", ambiguous), ("unmatched", unmatched)):
        if count:
            session.add(
                Deletion(
                    id=new_id(),
                    connection_id=target.id,
                    entity=entity,
                    status=status,
                    records=count,
                    live=live,
                    at=utcnow(),
                )
            )
    await session.flush()


async def ask(
    store: Store,
    session: AsyncSession,
    target: PollTarget,
    entity: str,
    *,
    ambiguous: int,
    unmatched: int,
) -> None:
    """Notify people that some of the predecessor's records wait for them."""
    said = []
    if ambiguous:
        said.append(
            f"{counted(ambiguous, 'record')} may each be one of several: say which in the form "
            "`deletions`: *show* lists them."
        )
    if unmatched:
        said.append(
            f"{counted(unmatched, 'record')} came from an earlier version, and too little is "
            "known of what it stored to recognise it under another key: what the system has now "
            "is in the feed as new. Once nothing refers to the old keys, accept them in the form "
            "`deletions`."
        )
    count = ambiguous + unmatched
    opening = Opening(
        topic=TOPIC,
        kind=KIND,
        scope="connection",
        cause=cause(target.id, entity),
        app=target.app.name,
        title=f"{target.label} · {entity}: {counted(count, 'unmatched record')} of the connection "
        "before",
        summary="The new login made a new connection. " + " ".join(said),
        members={target.id: KIND},
        detail={"entity": entity, "ambiguous": ambiguous, "unmatched": unmatched},
    )
    await open_incident(store, session, opening, now=utcnow())


def cause(connection_id: str, entity: str) -> str:
    """The cause of the incident of records that wait for a person."""
    return f"succession:{connection_id}:{entity}"


async def settle_held(
    store: Store, session: AsyncSession, connection_id: str, entity: str, *, now: datetime
) -> None:
    """Count again what is held as ambiguous; with nothing left the incident is over."""
    identifier = await held_by(session, connection_id, entity, "ambiguous")
    if identifier is not None:
        deletion = await session.get_one(Deletion, identifier)
        deletion.records = await count_of(session, identifier)
        if not deletion.records:
            deletion.status = "void"
        await session.flush()
    await resolve_if_settled(store, session, connection_id, entity, now=now)


async def resolve_if_settled(
    store: Store, session: AsyncSession, connection_id: str, entity: str, *, now: datetime
) -> None:
    """Resolve the incident where no record waits for a person any more."""
    left = await session.scalar(
        select(func.count())
        .select_from(Deletion)
        .where(
            col(Deletion.connection_id) == connection_id,
            col(Deletion.entity) == entity,
            col(Deletion.status).in_(("ambiguous", "unmatched")),
        )
    )
    if not left:
        text = f"No record of {entity} waits to be matched any more"
        await resolve_incident(store, session, cause(connection_id, entity), text, now=now)
