"""One incident of lost logins, from asking the customer to backfilled: one run, however long."""

import itertools
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed, Failed
from prefect.tasks import Task
from prefect.utilities.urls import url_for
from pydantic import Field

from flows.form import SentForm, answered, form, wait_for
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound, find_connection
from linekeeper.incidents.of_connection import incident_of
from linekeeper.makini import MakiniError
from linekeeper.markdown import not_taken
from linekeeper.reconnect.case import (
    KIND,
    Case,
    how_it_ended,
    incident_of_run,
    load_case,
)
from linekeeper.reconnect.check import check_and_advance
from linekeeper.reconnect.graph import LOGIN
from linekeeper.reconnect.page import waiting_for
from linekeeper.reconnect.process import (
    FormAnswer,
    Next,
    NoCase,
    Replaced,
    next_step,
    take_answer,
    take_up,
)
from linekeeper.runtime import Runtime
from tasks.drawn import drawn_state
from tasks.graph import follow
from tasks.implementation import this_run
from tasks.notify import NotDelivered, incident_ordering_keys, notify
from tasks.prefect_adapter.current import current_run
from tasks.reconnect import (
    backfill,
    close,
    draw_case,
    report_reconnect,
    verify,
)
from tasks.reconnect_runs import keep_named
from tasks.run import open_runtime, refused, rename, skipped

VERIFICATIONS = 3
WAITS_SECONDS = 180 * 86_400
"""Prefect's own time-out, far beyond ours: when waiting ends is decided in our database."""


class CannotBeRead(Exception):
    """A login that the status finds well, and a read refuses, time and again."""


class WaitingForCustomer(RunInput):
    """Nothing to do here: the run goes on by itself once the customer has logged in."""

    note: str = Field(default="", title="Note", description="Kept in the incident's thread")
    snooze: Literal["no", "1 hour", "4 hours", "Monday"] = Field(
        default="no", title="Snooze reminders", description="Nobody is reminded until then"
    )
    give_up: bool = Field(
        default=False,
        title="Give up",
        description="Stop asking the customer. The run ends Failed, the incident stays open",
    )
    by: str = Field(
        default="",
        title="Your name",
        description="Needed to snooze or to give up; it is kept in the audit",
    )


@flow(name="reconnect", flow_run_name="reconnect", retries=0)
@form
async def reconnect(
    incident: Annotated[
        str, Field(title="Incident", description="An incident's id; or give a connection")
    ] = "",
    connection: Annotated[
        str,
        Field(
            title="Connection",
            description="Its name, `Customer · System`, a tag, or Makini's key",
            examples=["Acme Metals · SAP ECC"],
        ),
    ] = "",
) -> State[None]:
    """Wait for the customer's login; then verify it, backfill what was missed, and close.

    It waits suspended and costs nothing. Ends `Reconnected`, or `Failed` if it was given up, the
    deadline passed, or Makini did not answer; the incident is open then. Where another run takes
    the case, as one that is started by hand does, it ends `Replaced`.
    """
    async with open_runtime() as rt:
        try:
            run_id = this_run() or ""
            incident_id = incident.strip() or await _incident_of(rt, connection, run_id)
            await check_and_advance(rt, incident_id)
            case = await take_up(rt, incident_id, run_id, now=utcnow())
            await rename(case.incident.title)
            await report_reconnect(incident_id)
            refusal = await _take_last(rt, incident_id)
            return await _go_on(rt, incident_id, run_id, refusal)
        except (NoCase, NotFound) as error:
            return refused(
                "incident" if incident.strip() else "connection",
                error,
                "Enter an open incident of a lost login, or its connection.",
            )
        except Replaced as replaced:
            return await _hand_over(await _case(rt, incident_id), replaced.run_id)


async def _go_on(rt: Runtime, incident_id: str, run_id: str, refusal: str) -> State[None]:
    """Wait, and do what is to be done then.

    Where Makini or the system is away for longer than the steps try, the run has found that, and is
    not broken: the next sweep starts another one, which goes on with what is left.
    """
    try:
        step, verified = await _wait(rt, incident_id, run_id, refusal)
        return await _end(rt, incident_id, step, after=verified)
    except (MakiniError, CannotBeRead) as error:
        title = (await _case(rt, incident_id)).incident.title
        said = str(error).rstrip(".")
        return Failed(message=f"{title}: {said}. Another run goes on with it after the next sweep")


async def _hand_over(case: Case, run_id: str) -> State[None]:
    """End for another run of the same case, which goes on."""
    await rename(f"{case.incident.title} · continued by another run")
    url = url_for("flow-run", obj_id=run_id)
    where = f"run {run_id}" + (f" ({url})" if url else "")
    return Completed(name="Replaced", message=f"{case.incident.title}: {where} goes on with it")


async def _take_last(rt: Runtime, incident_id: str) -> str:
    """Take what this run was resumed with; why that is not taken, if so.

    Nothing may be left to wait for by now: then nobody asks again for what was answered.
    """
    case = await _case(rt, incident_id)
    number = case.reconnect.answers + 1 if case.reconnect is not None else 1
    given = await answered(WaitingForCustomer, f"waiting-{number}")
    return "" if given is None else await _take(rt, incident_id, number, given)


async def _take(
    rt: Runtime, incident_id: str, number: int, sent: SentForm[WaitingForCustomer]
) -> str:
    """Take it; why it is not taken, as the next form says it."""
    given = sent.form
    answer = FormAnswer(given.by, given.note, given.snooze, given.give_up, sent.at)
    return not_taken(await take_answer(rt, incident_id, number, answer, now=utcnow()))


async def _wait(
    rt: Runtime, incident_id: str, run_id: str, refusal: str
) -> tuple[Next, State[Any] | None]:
    """Wait until there is something else to do; what that is, and what it comes after.

    A verification that fails waits again. Raises `Replaced` once another run has taken the case,
    and `MakiniError` or `CannotBeRead` where nobody can say how the login is.
    """
    refused = 0
    last = drawn_state(UUID(run_id), LOGIN) if run_id else None
    for number in itertools.count(1):
        case = await _case(rt, incident_id)
        step = next_step(case, run_id)
        await _draw(case)
        while step == "verify":
            is_well, last = await follow(_named(verify, case), _members(case), before=[last])
            if is_well:
                break
            refused += 1
            if refused > VERIFICATIONS:
                raise CannotBeRead("its status is good, but it can't be read")
            case = await _case(rt, incident_id)
            step = next_step(case, run_id)
        if step != "wait":
            return step, last
        given = await wait_for(
            WaitingForCustomer.with_initial_data(description=refusal + waiting_for(case)),
            f"waiting-{number}",
            seconds=WAITS_SECONDS,
        )
        # Answers from before this run was resumed come first, and were taken.
        refusal = await _take(rt, incident_id, number, given) or refusal
    raise AssertionError("unreachable")


async def _case(rt: Runtime, incident_id: str) -> Case:
    case = await load_case(rt.store, incident_id, now=utcnow())
    assert case is not None  # it was taken up, and incidents are never removed
    return case


async def _incident_of(rt: Runtime, connection: str, run_id: str) -> str:
    """The incident this run works on already, whatever its connection is called or is by now."""
    if not connection.strip():
        raise NoCase("Give an incident or a connection")
    if known := await incident_of_run(rt.store, run_id):
        return known
    async with rt.store.read() as session:
        named = await find_connection(session, connection)
        incident_id = await incident_of(session, named.id, kind=KIND)
    if incident_id is not None:
        return incident_id
    if named.setup == "disconnected":
        raise NoCase(
            f"{named.label} is disconnected. To have its customer connect it anew, run `connect`"
        )
    raise NoCase(
        f"{named.label} has not lost its login. To renew a login all the same, run `connect`"
    )


async def _draw(case: Case) -> None:
    """Show in this run's graph and tags what led here, and what is waited for."""
    if (run := current_run()) is not None:
        async with get_client() as client:
            run = await client.read_flow_run(run.id)
            await keep_named(client, run, case)
            await draw_case(client, run, case)


def _members(case: Case) -> dict[str, str]:
    return {member.connection_id: member.label for member in case.members}


def _named(step: Task[..., Any], case: Case) -> Task[..., Any]:
    """The step, its runs named after whose it is."""
    only = len(case.members) == 1
    name = case.members[0].label if only else f"{len(case.members)} connections"
    return step.with_options(task_run_name=lambda: f"{step.name} {name}")


async def _end(
    rt: Runtime, incident_id: str, step: Next, *, after: State[Any] | None
) -> State[None]:
    last = after
    if step == "verify":
        last = await _backfill(await _case(rt, incident_id), after=last)
    outcome = {"verify": "reconnected", "closed": ""}.get(step, step)
    if not outcome:
        return skipped(how_it_ended(await _case(rt, incident_id)))
    sentence, closed = await follow(close, incident_id, outcome, before=[last])
    case = await _case(rt, incident_id)
    await rename(f"{case.incident.title} · {sentence}")
    try:
        await follow(notify, incident_ordering_keys([incident_id]), before=[closed])
    except NotDelivered as error:  # it stays in the outbox, and the consumer tries on
        get_run_logger().warning("%s", error)
    if outcome == "reconnected":
        return Completed(name="Reconnected", message=sentence)
    if outcome == "moved":
        return skipped("Continued in another incident, which has a run of its own")
    return Failed(message=f"{case.incident.title}: {sentence}")


async def _backfill(case: Case, *, after: State[Any] | None) -> State[Any]:
    members = {
        member.connection_id: member.label
        for member in case.members
        if member.setup != "disconnected"
    }
    until = case.incident.resolved_at or utcnow()
    named = _named(backfill, case)
    _, state = await follow(named, case.incident.id, members, until, before=[after])
    return state
