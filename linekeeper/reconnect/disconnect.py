"""Disconnecting for good: at Makini, then here. History stays; tokens, links and incidents end."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.login import LEASE_SECONDS, WAIT_SECONDS
from linekeeper.clock import utcnow
from linekeeper.credits.service import return_credits
from linekeeper.customers.distinct_labels import distinguish_labels
from linekeeper.customers.find import Named, find_connection
from linekeeper.incidents.conclude import conclude
from linekeeper.makini import ErrorKind, MakiniError, ReadOnlyApp, with_call_in_hand
from linekeeper.refusal import Refusal
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.leases import TOKENS, holding
from linekeeper.store.lists import count_rows
from linekeeper.store.modes import app_of, load_chosen
from linekeeper.store.tables import (
    Audit,
    Connection,
    ConnectLink,
    Credential,
    CreditEntry,
    Incident,
    IncidentConnection,
    Record,
    Transition,
)
from linekeeper.text import counted
from linekeeper.tokens.stored import destroy_tokens


class DisconnectNotConfirmed(Refusal):
    """What was typed is not what was asked for; nothing was done."""


@dataclass(frozen=True, slots=True)
class DisconnectPreview:
    """What disconnecting would do."""

    named: Named
    manages: bool
    has_token: bool
    credits: int
    records: int
    incidents: tuple[str, ...]
    """Titles of the open ones it is in."""

    @property
    def lines(self) -> list[str]:
        """Return it in sentences."""
        lines = [
            f"Makini's connection {self.named.makini_key} of {self.named.label} is deleted; "
            "reconnecting later makes a new one.",
            "Its tokens are destroyed." if self.has_token else "No token of it is held.",
            f"{self.credits} credits come back (estimate)."
            if self.credits
            else "No credits of it are in the ledger.",
            f"{counted(self.records, 'record')} and all of its history stay.",
        ]
        if self.incidents:
            lines.append(f"It leaves: {', '.join(self.incidents)}.")
        if not self.manages:
            lines.append(
                f"{self.named.label} is in observe mode: it can't be disconnected until its mode "
                f"(`linekeeper mode`), or that of app {self.named.app}, is manage."
            )
        return lines


async def preview(rt: Runtime, wanted: str) -> DisconnectPreview:
    """What disconnecting the connection called `wanted` would do. Raises `NotFound`."""
    async with rt.store.read() as session:
        named = await find_connection(session, wanted)
        chosen = (await load_chosen(session, [named.id])).get(named.id)
        token = await session.scalar(
            select(col(Credential.connection_id)).where(col(Credential.connection_id) == named.id)
        )
        held = await session.scalar(
            select(func.sum(CreditEntry.delta)).where(col(CreditEntry.subject) == named.id)
        )
        is_there = col(Record.connection_id) == named.id, col(Record.deleted_at).is_(None)
        records = await count_rows(session, Record, *is_there)
        titles = await session.scalars(
            select(col(Incident.title))
            .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
            .where(
                col(IncidentConnection.connection_id) == named.id,
                col(IncidentConnection.left_at).is_(None),
                col(Incident.resolved_at).is_(None),
            )
        )
        incidents = tuple(titles)
    app = (await rt.configuration()).apps.get(named.app)
    return DisconnectPreview(
        named=named,
        manages=app is not None and app_of(app, chosen).manages,
        has_token=token is not None,
        credits=-(held or 0),
        records=records or 0,
        incidents=incidents,
    )


async def disconnect(rt: Runtime, wanted: str, *, confirm: str, by: str) -> str:
    """Disconnect the connection called `wanted`; returns what was done, in a sentence.

    `confirm` must be its Makini key or its `Customer · System`. Doing it again, also after a crash
    in between, completes it. Raises `NotFound`, `DisconnectNotConfirmed`, `ReadOnlyApp` in
    `observe`, or `MakiniError`; then nothing was done here.
    """
    if not by.strip():
        raise DisconnectNotConfirmed("by", "say who does this (by); nothing was done")
    async with rt.store.read() as session:
        named = await find_connection(session, wanted)
        connection = await session.get_one(Connection, named.id)
    if confirm.strip().casefold() not in (named.makini_key.casefold(), named.label.casefold()):
        raise DisconnectNotConfirmed(
            "confirm", f"type {named.makini_key} (or {named.label}) to confirm; nothing was done"
        )
    app = app_of(await rt.app(named.app), connection)
    if not app.manages:
        raise ReadOnlyApp(app.name, "disconnect a connection", named.label)
    makini, ref = rt.makini(app), app.ref_of(connection.makini_key, connection.makini_id)

    async def delete() -> None:
        async with holding(
            rt.store,
            TOKENS,  # a renewal or a login under way ends first
            f"{rt.owner}:{new_id()}",
            subject=connection.id,
            seconds=LEASE_SECONDS,
            wait=True,
            wait_seconds=WAIT_SECONDS,
        ):
            try:
                await makini.delete_connection(ref)
            except MakiniError as error:
                if error.kind is not ErrorKind.not_found:
                    raise
            policy = (await rt.configuration()).policy
            now = utcnow()
            async with rt.store.write() as session:
                await return_credits(
                    rt.store, session, connection.id, app=named.app, by=by.strip(), now=now
                )
                await _end(session, connection.id, by=by.strip(), now=now)
                await conclude(rt.store, session, policy=policy, now=now)

    await with_call_in_hand(lambda: makini.reserve(ref, app_token=True), delete)
    return f"{named.label} is disconnected: deleted at Makini, its tokens destroyed"


async def _end(session: AsyncSession, connection_id: str, *, by: str, now: datetime) -> None:
    row = await session.get_one(Connection, connection_id, with_for_update=True)
    await destroy_tokens(session, connection_id)
    await session.execute(
        update(ConnectLink)
        .where(
            col(ConnectLink.connection_id) == connection_id,
            col(ConnectLink.used_at).is_(None),
            col(ConnectLink.expires_at) > now,
        )
        .values(expires_at=now)
    )
    if row.setup != "disconnected":
        session.add(
            Transition(
                connection_id=connection_id,
                at=now,
                axis="setup",
                before=row.setup,
                after="disconnected",
                source="operator",
                evidence={"by": by},
            )
        )
        row.setup = "disconnected"
    row.disappeared_at = None  # ordered, or confirmed, here
    session.add(Audit(at=now, by=by, action="connection.disconnected", subject=connection_id))
    await session.flush()
    if row.customer_id is not None:
        await distinguish_labels(session, [row.customer_id])
