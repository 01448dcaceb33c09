"""A login set up, from the technical requirements to the connection's first status: one run."""

from contextlib import suppress
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed, Failed
from prefect.tasks import Task
from pydantic import Field

from flows.form import SentForm, answered, form, wait_for
from linekeeper.access.invite import BadInvitation
from linekeeper.authentication_setup import service
from linekeeper.authentication_setup.decide import BadSetup, Decision, SetupStanding
from linekeeper.authentication_setup.subject import find_subject
from linekeeper.authentication_setup.successor import take_over
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.implementation import work
from linekeeper.implementation.advance import NoSuchImplementation
from linekeeper.makini import MakiniError, ReadOnlyApp
from linekeeper.markdown import not_taken
from linekeeper.runtime import Runtime, UnknownApp
from tasks.authentication_setup import (
    accept_preflight,
    ask_customer,
    confirm_requirements,
    first_status,
    make_link,
    note_login,
    verify_token,
)
from tasks.implementation import gate_key, not_needed, run_to_replace, this_run
from tasks.implementation_forms import retag_work, setup_question
from tasks.run import open_runtime, refused, rename
from tasks.steps import Steps

WAITS_SECONDS = 180 * 86_400
REQUIREMENTS, PREFLIGHT, LOGIN = "technical requirements", "preflight", "login"
LINK, ASKED = "link made", "customer asked"
VERIFIED, STATUS = "token verified", "first status"


class SetupAnswer(RunInput):
    """What a run that waits was resumed with, by whichever of its two forms."""

    decision: Decision = "wait"
    note: str = Field(default="", title="Note", description="Why; it is kept in the audit")
    by: str = Field(
        default="", title="Your name", description="Needed with a decision; kept in the audit"
    )


class WaitingForUs(SetupAnswer):
    """What comes before the customer is asked: confirm it, or end the set-up."""

    decision: Literal["wait", "confirmed", "not needed", "give up"] = Field(
        default="wait", title="Decision", description="What is to be done"
    )


class WaitingForCustomer(SetupAnswer):
    """Nothing has to be done here: the run goes on by itself once the customer has logged in."""

    decision: Literal["wait", "send again", "not needed", "give up"] = Field(
        default="wait",
        title="Decision",
        description="`send again` asks by a new link; the others end the set-up and the link",
    )


@flow(name="authentication-setup", flow_run_name="authentication-setup", retries=0)
@form
async def authentication_setup(
    connection: Annotated[
        str,
        Field(
            title="Connection",
            description="Its name, `Customer · System`, a tag, or Makini's key; or give an "
            "implementation",
            examples=["Acme Metals · SAP ECC"],
        ),
    ] = "",
    implementation: Annotated[
        str,
        Field(title="Implementation", description="Its title or slug, or its customer's name"),
    ] = "",
    system: Annotated[
        str,
        Field(
            title="System",
            description="Which system of the implementation; empty: the one without a login",
        ),
    ] = "",
    requirements_confirmed: Annotated[
        bool,
        Field(
            title="Technical requirements are confirmed",
            description="The customer has a user for Makini, and what its system asks for. Not "
            "needed where the kickoff of its implementation is done",
        ),
    ] = False,
    by: Annotated[
        str, Field(title="Your name", description="Who sets it up; it is kept in the audit")
    ] = "",
) -> State[None]:
    """Set up a login: ask the customer, wait, verify the new token by a read.

    It waits suspended; its name and form say what for. It ends with the first status of the
    connection, `Not needed`, `Replaced` by a later run, or `Failed` if it was given up.
    """
    async with open_runtime() as rt:
        run_id, who = this_run() or "", by.strip() or "authentication-setup form"
        key, lost = await gate_key(), await run_to_replace()
        try:
            if await service.has_begun(rt, run_id):
                pass
            elif lost is not None:
                if not await take_over(rt, lost, run_id):
                    return await not_needed("authentication", "taken")
            else:
                claim = await work.claim(rt.store, key, run_id, now=utcnow()) if key else "ours"
                if claim != "ours":
                    return await not_needed("authentication", claim)
                async with rt.store.read() as session:
                    subject = await find_subject(session, connection, implementation, system)
                await service.begin(
                    rt,
                    subject,
                    run_id=run_id,
                    by=who,
                    confirmed=requirements_confirmed,
                    for_gate=key is not None,
                    now=utcnow(),
                )
        except (NotFound, NoSuchImplementation, BadSetup, ReadOnlyApp, UnknownApp) as problem:
            await rename("authentication · refused")
            await work.note_ended(rt.store, run_id)
            field = "implementation" if implementation.strip() else "connection"
            return refused(field, problem, "Correct it and send the form again.")
        try:
            return await _set_up(rt, run_id)
        except (BadInvitation, ReadOnlyApp) as problem:
            await service.give_up(rt, run_id, now=utcnow())
            return Failed(message=f"No link could be made: {problem}")


async def _set_up(rt: Runtime, run_id: str) -> State[None]:
    """Take every step that can be taken; wait for the others."""
    steps = await Steps.of_this_run()
    refusal = await _take_last(rt, run_id)
    while True:
        await service.end_if_over(rt, run_id, now=utcnow())
        standing = await service.load_standing(rt, run_id, now=utcnow())
        if standing.row.outcome is not None and standing.step != "connected":
            return await _ended(standing)
        order = _order(standing)
        if standing.step == "requirements":
            refusal = await _wait(rt, standing, refusal)
            continue
        if standing.row.confirmed_at is not None or standing.kickoff_by is not None:
            await _take(steps, confirm_requirements, run_id, REQUIREMENTS, order)
            if standing.subject.on_premises and standing.lacks_preflight is None:
                await _take(steps, accept_preflight, run_id, PREFLIGHT, order)
        links = standing.row.links
        if links and standing.step not in ("link", "ask"):
            # Done before: in this run, whose step is not taken twice, or in one that was lost.
            await _take(steps, make_link, run_id, _nth(LINK, links), order)
            await _take(steps, ask_customer, run_id, _nth(ASKED, links), order)
        match standing.step:
            case "link":
                await _take(steps, make_link, run_id, _nth(LINK, links + 1), order)
            case "ask":
                await _take(steps, ask_customer, run_id, _nth(ASKED, links), order)
            case "preflight" | "login":
                refusal = await _wait(rt, standing, refusal)
            case "verification":
                await _take(steps, note_login, run_id, LOGIN, order)
                await retag_work(run_id)
                with suppress(MakiniError):  # the step is red; it is tried again, as for *Not read*
                    await _take(steps, verify_token, run_id, VERIFIED, order)
                if not steps.is_done(VERIFIED):
                    refusal = await _wait(rt, standing, refusal)
            case _:
                await _take(steps, first_status, run_id, STATUS, order)
                return await _connected(rt, standing)


def _nth(name: str, number: int) -> str:
    return name if number == 1 else f"{name} again {number - 1}"


def _order(standing: SetupStanding) -> list[str]:
    """The steps of the run in their order, with those of every link so far and of the next."""
    asked = [
        _nth(name, number) for number in range(1, standing.row.links + 2) for name in (LINK, ASKED)
    ]
    return [REQUIREMENTS, PREFLIGHT, *asked, LOGIN, VERIFIED, STATUS]


async def _take(
    steps: Steps, task: Task[..., Any], run_id: str, name: str, order: list[str]
) -> None:
    """Run `task` as the step `name`, after the last one that was taken before it."""
    before = [step for step in order[: order.index(name)] if steps.is_done(step)]
    await steps.once(task, run_id, name=name, after=before[-1:])


async def _take_last(rt: Runtime, run_id: str) -> str:
    """Take what this run was resumed with, also where nothing is waited for any more."""
    number = (await service.load_standing(rt, run_id, now=utcnow())).row.answers
    given = await answered(SetupAnswer, _key(number))
    return "" if given is None else await _take_answer(rt, run_id, number, given)


def _key(number: int) -> str:
    return f"answer-{number}"


async def _wait(rt: Runtime, standing: SetupStanding, refusal: str) -> str:
    """Suspended until the consumer, or a person, resumes the run; why that is not taken, if so."""
    row, label = standing.row, standing.subject.label
    number = await service.note_waiting(rt, standing, now=utcnow())
    what = {
        "requirements": "the technical requirements",
        "preflight": "preflight",
        "verification": "a read with the new token",
    }.get(standing.step, "the customer's login")
    if standing.link_has_ended(utcnow()):
        what = "a new link: the last has ended"
    await rename(f"authentication · {label} · waits for {what}")
    await retag_work(row.run_id)
    asked = WaitingForUs if standing.step in ("requirements", "preflight") else WaitingForCustomer
    given = await wait_for(
        asked.with_initial_data(description=refusal + await setup_question(standing)),
        _key(number),
        seconds=WAITS_SECONDS,
    )
    return await _take_answer(rt, row.run_id, number, given)


async def _take_answer(rt: Runtime, run_id: str, number: int, sent: SentForm[SetupAnswer]) -> str:
    """Take it; why it is not taken, as the next form says it."""
    given = sent.form
    fault = await service.take_answer(
        rt, run_id, number, given.decision, note=given.note, by=given.by, now=sent.at
    )
    return not_taken(fault)


async def _connected(rt: Runtime, standing: SetupStanding) -> State[None]:
    said = await service.first_status_of(rt, standing.row.run_id)
    await rename(f"authentication · {standing.subject.label} · connected")
    return Completed(message=said)


async def _ended(standing: SetupStanding) -> State[None]:
    """End as somebody decided, or for a later run."""
    label = standing.subject.label
    outcome = (standing.row.outcome or "").replace("_", " ")
    await rename(f"authentication · {label} · {outcome}")
    if standing.row.outcome == "given_up":
        return Failed(message=f"{label}: given up, nobody has logged in. The link has ended")
    if standing.row.outcome == "replaced":
        return Completed(name="Replaced", message=f"A later run sets up the login of {label}")
    return Completed(name="Not needed", message=f"{label}: the link is not needed and has ended")
