"""The steps of a set-up. Each asks the database what is done, so that it can be repeated."""

from datetime import datetime, timedelta

from sqlalchemy import and_, exists, or_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.access.invite import invite_again, invite_new
from linekeeper.authentication_setup.decide import (
    Decision,
    SetupStanding,
    SetupSubject,
    Step,
    lack_of_preflight,
)
from linekeeper.authentication_setup.subject import in_turn, kickoff_of, must_manage, subject_of
from linekeeper.implementation import work
from linekeeper.implementation.queries import last_preflights
from linekeeper.incidents.announce import said_about
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.outbox.waking import wake_run
from linekeeper.reconnect.process import NotVerified, verify_login
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import (
    Audit,
    AuthenticationSetup,
    Connection,
    ConnectLink,
    Credential,
    ImplementationSystem,
)
from linekeeper.text import health_name

LOOK_AGAIN = timedelta(minutes=15)


async def begin(
    rt: Runtime,
    subject: SetupSubject,
    *,
    run_id: str,
    by: str,
    confirmed: bool,
    for_gate: bool = False,
    now: datetime,
) -> None:
    """Set up the login of `subject` as the run `run_id`; another run that does so is replaced.

    A run that Linekeeper started for a gate, where another was lost, goes on with what that one
    has done (`for_gate`). The same run again, resumed, changes nothing. Raises
    `ReadOnlyApp`, `UnknownApp`.
    """
    async with rt.store.write() as session:
        await must_manage(rt, session, subject)
        await in_turn(session, subject)
        if await _row(session, run_id) is not None:
            return
        same = [col(AuthenticationSetup.system_id) == subject.system_id]
        if subject.connection_id is not None:
            same.append(col(AuthenticationSetup.connection_id) == subject.connection_id)
        before = await session.scalars(
            select(AuthenticationSetup)
            .where(
                or_(*same) if subject.system_id else same[-1],
                col(AuthenticationSetup.ended_at).is_(None),
            )
            .order_by(col(AuthenticationSetup.id))
        )
        rows = list(before.all())
        if for_gate and rows:
            rows[-1].run_id, rows[-1].waits_for = run_id, None
            return
        if not for_gate:
            await work.take_by_hand(
                rt.store,
                session,
                "authentication-setup",
                run_id,
                connection_id=subject.connection_id,
                system_id=subject.system_id,
                now=now,
            )
        for row in rows:
            await _end(session, row, "replaced", now)
            await _wake(rt, session, row, now)
        session.add(
            AuthenticationSetup(
                id=new_id(),
                run_id=run_id,
                connection_id=subject.connection_id,
                system_id=subject.system_id,
                started_at=now,
                started_by=by,
                logins_from=now,
                confirmed_at=now if confirmed else None,
                confirmed_by=by if confirmed else None,
            )
        )
        about = subject.connection_id or subject.system_id or ""
        said = {"confirmed": confirmed}
        session.add(Audit(at=now, by=by, action="setup.started", subject=about, detail=said))


async def end_if_over(rt: Runtime, run_id: str, *, now: datetime) -> None:
    """End the set-up of a gate that was skipped, or whose implementation was abandoned."""
    async with rt.store.write() as session:
        if await work.is_over(session, run_id):
            await _end(session, await known(session, run_id), "not_needed", now)


async def give_up(rt: Runtime, run_id: str, *, now: datetime) -> None:
    """End the set-up because no link can be made: somebody has to begin again."""
    async with rt.store.write() as session:
        await _end(session, await known(session, run_id), "given_up", now)


async def has_begun(rt: Runtime, run_id: str) -> bool:
    """Whether the run has begun its set-up before."""
    async with rt.store.read() as session:
        return await _row(session, run_id) is not None


async def load_standing(rt: Runtime, run_id: str, *, now: datetime) -> SetupStanding:
    """How far the set-up of the run is."""
    async with rt.store.read() as session:
        row = await known(session, run_id)
        subject = await subject_of(session, row)
        lack = None
        if subject.on_premises and not row.without_preflight:
            seen = await last_preflights(session, [subject.target] if subject.target else [])
            lack = lack_of_preflight(subject, seen, now=now)
        gate = await kickoff_of(session, subject)
        return SetupStanding(
            row=row,
            subject=subject,
            link=await session.get(ConnectLink, row.link_id) if row.link_id else None,
            connection_id=await _logged_in(session, row, subject),
            kickoff_by=(gate.done_by or "linekeeper") if gate else None,
            lacks_preflight=lack,
        )


async def _logged_in(
    session: AsyncSession, row: AuthenticationSetup, subject: SetupSubject
) -> str | None:
    """The connection the customer logged in to, by whichever link for this system."""
    of_new = and_(
        col(ConnectLink.connection_id).is_(None),
        col(ConnectLink.customer_id) == subject.customer_id,
        col(ConnectLink.system) == subject.system,
    )
    of_known = col(ConnectLink.connection_id) == subject.connection_id
    used = await session.scalars(
        select(col(ConnectLink.used_for))
        .where(
            col(ConnectLink.app) == subject.app,
            col(ConnectLink.used_for).is_not(None),
            col(ConnectLink.used_at) >= row.logins_from,
            of_new if subject.connection_id is None else of_known,
        )
        .order_by(col(ConnectLink.used_at).desc())
        .limit(1)
    )
    login = used.first()
    if login is not None or row.system_id is None or row.connection_id is not None:
        return login
    if row.logins_from > row.started_at:
        return None  # what there was didn't do: a new login was asked for
    # The system may have been connected by other means: its implementation found it, it works.
    return await session.scalar(
        select(col(Connection.id))
        .join(ImplementationSystem, col(ImplementationSystem.connection_id) == col(Connection.id))
        .where(
            col(ImplementationSystem.id) == row.system_id,
            col(Connection.setup) != "disconnected",
            col(Connection.health) != "reauthorization_required",
            exists().where(col(Credential.connection_id) == col(Connection.id)),
        )
    )


async def confirm(rt: Runtime, run_id: str, *, now: datetime) -> str:
    """Keep that the technical requirements are confirmed; by whom."""
    standing = await load_standing(rt, run_id, now=now)
    async with rt.store.write() as session:
        row = await known(session, run_id)
        if row.confirmed_at is None:
            row.confirmed_at, row.confirmed_by = now, standing.kickoff_by
        return row.confirmed_by or ""


async def make_link(rt: Runtime, run_id: str, *, now: datetime) -> ConnectLink:
    """Make the link, once where two workers take the run; what there is is kept, unless asked."""
    standing = await load_standing(rt, run_id, now=now)
    row, subject, who = standing.row, standing.subject, standing.row.started_by
    if standing.link is not None and not row.send_again:
        return standing.link
    if subject.connection_id is not None:
        made = await invite_again(rt, subject.connection_id, by=who, now=now, anew=True)
    else:
        made = await invite_new(
            rt, subject.customer, subject.system, app=subject.app, by=who, now=now, anew=True
        )
    async with rt.store.write() as session:
        before, row = row.link_id, await known(session, run_id)
        if row.link_id not in (None, before):
            (await session.get_one(ConnectLink, made.link_id)).expires_at = now
            return await session.get_one(ConnectLink, row.link_id)
        row.link_id, row.links, row.send_again = made.link_id, row.links + 1, False
        row.asked_at, row.reminded = None, 0
        return await session.get_one(ConnectLink, made.link_id)


async def verify(rt: Runtime, run_id: str, *, now: datetime) -> tuple[bool, str]:
    """Whether a record was read with the new token, and what was seen.

    A read from before the login says nothing of it. Raises `MakiniError`: that can be tried again.
    """
    standing = await load_standing(rt, run_id, now=now)
    if standing.connection_id is None:
        return False, "nobody has logged in"
    try:
        seen = await verify_login(rt, standing.connection_id)
    except NotVerified as problem:
        return False, str(problem)
    async with rt.store.write() as session:
        connection = await session.get_one(Connection, standing.connection_id)
        row = await known(session, run_id)
        is_read = connection.last_read_at is not None and connection.last_read_at >= now
        if is_read and row.verified_at is None:
            row.verified_at, row.connection_id = connection.last_read_at, connection.id
    return is_read, seen


async def conclude(rt: Runtime, run_id: str, *, now: datetime) -> str:
    """End the set-up; returns the first status of the connection, in a sentence."""
    async with rt.store.write() as session:
        await _end(session, await known(session, run_id), "connected", now)
    return await first_status_of(rt, run_id)


async def first_status_of(rt: Runtime, run_id: str) -> str:
    """How the connection that was set up is, in a sentence."""
    async with rt.store.read() as session:
        row = await known(session, run_id)
        connection = await session.get_one(Connection, row.connection_id)
        label = (await subject_of(session, row)).label
    health = health_name(connection.health)
    return f"{label}: {health}, {connection.setup}; a record was read with its new token"


async def note_waiting(rt: Runtime, standing: SetupStanding, *, now: datetime) -> int:
    """Keep what the run waits for from now on; returns the number of the answer it waits for."""
    step: Step = standing.step
    ends = standing.link.expires_at if standing.link is not None else None
    async with rt.store.write() as session:
        row = await known(session, standing.row.run_id)
        row.waits_for = step
        row.look_at = now + LOOK_AGAIN if step == "verification" else None
        if step == "login" and ends is not None and ends > now:
            row.look_at = ends
        if standing.link_has_ended(now):
            text = f"{standing.subject.label}: nobody has logged in, and the link has ended. "
            text += "Answer the form of its authentication-setup run."
            about = said_about("login", customer_id=standing.subject.customer_id)
            payload = {"do": "say", "subject": f"setup:{row.id}", "text": text, **about}
            message = Message("slack", f"slack:say:setup:{row.link_id}:ended", payload, kind="say")
            await enqueue(rt.store, session, [message], now=now)
        return row.answers


async def take_answer(
    rt: Runtime, run_id: str, number: int, decision: Decision, *, note: str, by: str, now: datetime
) -> str | None:
    """Take answer `number` of the form, sent at `now`, once; why it is not taken, if it isn't.

    Logins after it count. One after the end of the set-up is kept in the audit, as notes are.
    """
    async with rt.store.write() as session:
        row = await known(session, run_id)
        if row.answers != number:
            return None
        row.answers += 1
        waited, row.waits_for = row.waits_for, None
        who = by.strip() or "authentication-setup form"
        if decision == "wait" and not note.strip():
            return None
        if decision != "wait" and not by.strip():
            return "say who you are"
        if decision == "wait" or row.ended_at is not None:
            pass
        elif decision == "confirmed" and waited == "requirements":
            row.confirmed_at, row.confirmed_by = now, who
        elif decision == "confirmed":
            row.without_preflight = row.without_preflight or waited == "preflight"
        elif decision == "send again":
            row.send_again, row.logins_from = True, now
            await _take_back(session, row, now)
        else:
            await _end(session, row, "given_up" if decision == "give up" else "not_needed", now)
        about = row.connection_id or row.system_id or ""
        said = {"decision": decision, "note": note[:500]}
        session.add(Audit(at=now, by=who, action="setup.answered", subject=about, detail=said))
    return None


async def _end(
    session: AsyncSession, row: AuthenticationSetup, outcome: str, now: datetime
) -> None:
    """End a set-up once; a link nobody used ends with it."""
    if row.ended_at is not None:
        return
    row.outcome, row.ended_at, row.waits_for = outcome, now, None
    if outcome != "replaced":
        await work.note_end(session, row.run_id)
    await _take_back(session, row, now)


async def _take_back(session: AsyncSession, row: AuthenticationSetup, now: datetime) -> None:
    link = await session.get(ConnectLink, row.link_id) if row.link_id else None
    if link is not None and link.used_at is None and link.expires_at > now:
        link.expires_at = now


async def _wake(
    rt: Runtime, session: AsyncSession, row: AuthenticationSetup, now: datetime
) -> None:
    turn = f"{row.answers}:{int(now.timestamp() // 60)}"
    await wake_run(rt.store, session, row.run_id, turn, now=now)


async def wake(rt: Runtime, run_id: str, *, now: datetime) -> None:
    """Have the suspended run go on."""
    async with rt.store.write() as session:
        await _wake(rt, session, await known(session, run_id), now)


async def _row(session: AsyncSession, run_id: str) -> AuthenticationSetup | None:
    is_its = col(AuthenticationSetup.run_id) == run_id
    return (await session.scalars(select(AuthenticationSetup).where(is_its))).first()


async def known(session: AsyncSession, run_id: str) -> AuthenticationSetup:
    row = await _row(session, run_id)
    assert row is not None  # the run has begun it, and set-ups are never removed
    return row
