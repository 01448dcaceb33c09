"""Explaining whatever a person names (INTERFACE `linekeeper explain`)."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.config import Configuration
from linekeeper.customers.find import NotFound
from linekeeper.explain.answer import Explanation, Kind
from linekeeper.explain.decide import judge
from linekeeper.explain.facts import Way
from linekeeper.explain.gather import delivery_way, record_way
from linekeeper.explain.hops import hops_of
from linekeeper.explain.notifying import explain_incident, explain_message
from linekeeper.explain.queries import change_facts
from linekeeper.explain.subject import find_by_id, find_record
from linekeeper.explain.words import kept, moment
from linekeeper.store import Store, is_id
from linekeeper.store.tables import Change, Incident, Outbox, WebhookEvent

MOST_CHARACTERS = 700


async def explain(
    store: Store, configuration: Configuration, subject: str, *, now: datetime
) -> Explanation:
    """The way of `subject` through every hop. Raises `NotFound` with what comes near it.

    `subject` is `Customer · System RECORD-KEY` (or the record's readable number), a delivery id
    (ours or the sender's), or the id of a change, an incident or an outbox message.
    """
    subject = _readable(subject)
    if not subject:
        raise NotFound("say what to explain, such as “Acme · Maximo 4711”")
    async with store.read() as session:
        explanation = await _by_id(store, session, configuration, subject, now)
        if explanation is not None:
            return explanation
        entities = {each for app in configuration.apps.values() for each in app.entities}
        record = await find_record(session, subject, entities)
        way = await record_way(
            store,
            session,
            configuration,
            record.connection_id,
            record.key,
            entity=record.entity,
            now=now,
        )
        return _explained("record", subject, way)


def _readable(subject: str) -> str:
    """`subject` on one line, without what no database can be asked for. Pure."""
    text = subject.replace("\0", " ").encode("utf-8", "replace").decode()
    return " ".join(text.split())[:MOST_CHARACTERS]


async def _by_id(
    store: Store, session: AsyncSession, configuration: Configuration, subject: str, now: datetime
) -> Explanation | None:
    if is_id(subject.lower()):
        subject = subject.lower()
    row = await find_by_id(session, subject, list(configuration.apps) or ["default"])
    match row:
        case Incident():
            return await explain_incident(store, session, configuration, row, now=now)
        case Outbox():
            return await explain_message(store, session, configuration, row, now=now)
        case Change():
            facts = change_facts(row)
            way = await record_way(
                store, session, configuration, row.connection_id, row.key, change=facts, now=now
            )
            return _explained("change", subject, way)
        case WebhookEvent():
            way = await delivery_way(store, session, configuration, row, now=now)
            return _explained("delivery", subject, way)
    return None


def _explained(kind: Kind, subject: str, way: Way) -> Explanation:
    verdict = judge(way)
    connection, change, delivery = way.connection, way.change, way.delivery
    label = connection.label if connection else "Unknown connection"
    number = way.record.number if way.record is not None else None
    called = f" ({number})" if number and number != way.key else ""
    entity = f"{way.entity()} " if way.entity() else ""
    was = f", was {way.renamed_from}" if way.renamed_from else ""
    title = f"{label} · {entity}{way.key}{called}{was}" if way.key else f"{label} · webhook"
    ids = {
        "connection": connection.id if connection else None,
        "event": delivery.id if delivery else None,
        "change": change.id if change else None,
    }
    return Explanation(
        kind=kind,
        subject=subject,
        title=title,
        hops=hops_of(way, verdict),
        verdict=verdict,
        limits=limits(way),
        ids={name: value for name, value in ids.items() if value is not None},
    )


def limits(way: Way) -> tuple[str, ...]:
    """Where the records end, and what can't be known. Pure."""
    said = []
    if way.more_keys:
        said.append(
            f"The delivery names {way.more_keys} more records. Ask for one of them by its key."
        )
    if way.also_in:
        said.append(
            f"This connection has the key in {', '.join(way.also_in)}, too: ask with the entity "
            f"before the key, such as “{way.also_in[0]} {way.key}”."
        )
    if way.kept_since is not None:
        said.append(
            f"The oldest delivery that is kept came at {moment(way.kept_since)}; those older can't "
            "be searched for a record key."
        )
    else:
        said.append("No delivery is kept.")
    if (bodies := way.retention.get("bodies")) is not None:
        said.append(
            f"Bodies of deliveries from before {moment(bodies)} were emptied by housekeeping, so "
            "that no record key is found in them."
        )
    said.append(
        kept(way.retention.get("traces"), "Attempts to forward and reads of the change feed")
    )
    if way.delivery is None:
        said.append(
            "Rejected deliveries are counted, not kept: which record they named can't be known."
        )
    said.append("What the customer's system did before Makini read it can't be seen from here.")
    return tuple(said)
