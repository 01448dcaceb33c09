"""What a connection is read for, how often, what is kept: set, then verified, in one run."""

import itertools
from contextlib import suppress
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import OneConnection, SentForm, answered, form, wait_for
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.customers.find import Named, NotFound, find_connection
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.implementation import work
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.workflow_configuration import service
from linekeeper.workflow_configuration.decide import (
    BadConfiguration,
    ConfigurationStanding,
    Entered,
    WantedConfiguration,
    take_wanted,
)
from linekeeper.workflow_configuration.question import (
    refused_for,
    waiting_question,
    what_to_read,
)
from tasks.implementation import gate_key, not_needed, run_to_replace, step_of, this_run
from tasks.run import open_runtime, refused, rename, skipped
from tasks.steps import Steps
from tasks.task import StillFailing
from tasks.workflow_configuration import (
    Writing,
    clean_reconcile,
    conclude,
    first_read,
    verify_first_read,
    verify_webhooks,
    write_settings,
)

WAITS_SECONDS = 180 * 86_400
TARGET = "The name of a forward target of its app's block; empty: the app's forward URL"
FORM = "workflow-configuration form"
WRITE, READ, LISTED = "write settings", "first full read", "first full read complete"
WEBHOOKS, RECONCILE, VERIFIED = "webhooks seen", "clean reconcile", "verified"


class Waiting(RunInput):
    """Nothing has to be done here: the run goes on by itself."""

    accept: bool = Field(
        default=False,
        title="Do not wait for webhooks",
        description="Go on without the webhooks that have not been seen; say who you are",
    )
    note: str = Field(default="", title="Note", description="Why; it is kept in the audit")
    by: str = Field(default="", title="Your name", description="It is kept in the audit")


class Configure(RunInput):
    """What the connection is to be read for; what is left as it is, is as the app says."""

    configure: bool = Field(
        default=True, title="Configure", description="Off: look again, nothing is written"
    )
    entities: list[str] = Field(
        default=[],
        title="Entities",
        description="What is read, such as `eam/work-orders`; no others are. Empty: all of its app",
    )
    cadence: int = Field(
        default=0,
        title="Cadence in minutes",
        description="How long an entity may go unread. 0: by the quality of its webhooks",
    )
    bodies: Literal["as the app says", "keep", "do not keep"] = Field(
        default="as the app says",
        title="Record bodies",
        description="Whether the contents of records are kept in Linekeeper's database",
    )
    forward_to: str = Field(default="", title="Forwarding target", description=TARGET)
    by: str = Field(default="", title="Your name", description="It is kept in the audit")


@flow(name="workflow-configuration", flow_run_name="configure {connection}", retries=0)
@form
async def workflow_configuration(
    connection: OneConnection,
    entities: Annotated[
        list[str],
        Field(
            title="Entities",
            description="What is read, such as `eam/work-orders`; no others are. "
            "Empty: all that its app is configured for",
        ),
    ] = [],  # noqa: B006  a form's default; never changed
    cadence: Annotated[
        int,
        Field(
            title="Cadence in minutes",
            description="How long an entity may go unread. 0: by the quality of its webhooks, "
            "5 to 60 minutes",
            ge=0,
        ),
    ] = 0,
    bodies: Annotated[
        Literal["as the app says", "keep", "do not keep"],
        Field(
            title="Record bodies",
            description="Whether the contents of records are kept in Linekeeper's database",
        ),
    ] = "as the app says",
    forward_to: Annotated[str, Field(title="Forwarding target", description=TARGET)] = "",
    by: Annotated[
        str, Field(title="Your name", description="Who configures it; it is kept in the audit")
    ] = "",
) -> State[None]:
    """Set what a connection is read for; then verify it.

    Verified is: every entity was listed whole, a webhook of each was processed, and one reconcile
    found nothing that the webhooks had not brought. What is waited for is in the run's form and
    name. The first full read settles the implementation's step for this connection.
    """
    async with open_runtime() as rt:
        steps, run_id, key = await Steps.of_this_run(), this_run() or "", await gate_key()
        claim = await work.claim(rt.store, key, run_id, now=utcnow()) if key else "ours"
        if claim != "ours":
            return await not_needed("configure", claim)
        try:
            async with rt.store.read() as session:
                known = await service.connection_of_run(session, run_id)
                named = await find_connection(session, known or connection)
            if named.setup not in ESTABLISHED:
                raise BadConfiguration(
                    "connection", f"{named.label} is {named.setup}; run authentication-setup first"
                )
            app = await rt.app(named.app)
            wanted = take_wanted(Entered(entities, cadence, bodies, forward_to), app)
        except (NotFound, UnknownApp, BadConfiguration) as refusal:
            await rename("configure · refused")
            await work.note_ended(rt.store, run_id)
            return refused("connection", refusal, "Correct it and send the form again.")
        who, lost = by.strip() or FORM, await run_to_replace()
        if lost is not None and not await service.take_over(rt, named.id, run_id, lost=lost):
            return await not_needed("configure", "taken")
        if key is not None and not await service.take_over(rt, named.id, run_id):
            given = await _ask(rt, named, app, run_id)
            if given is None:
                return await not_needed("configure", "settled")
            wanted, who = given
        writing = Writing(wanted, who, run_id, for_gate=key is not None)
        await steps.once(write_settings, named, writing, name=WRITE)
        return await _verify(rt, named, steps, run_id)


async def _ask(
    rt: Runtime, named: Named, app: AppConfig, run_id: str
) -> tuple[WantedConfiguration, str] | None:
    """What somebody enters in the form of the run, and who; None once its step is settled.

    Every answer is kept in the run: a resumed run takes those it was given before again.
    """
    refusal = ""
    for number in itertools.count():
        if not await work.is_open(rt.store, run_id):
            return None
        await rename(f"configure · {named.label} · waits for what to configure")
        sent = await wait_for(
            Configure.with_initial_data(
                description=refusal + what_to_read(named.label) + await step_of(run_id),
                entities=list(app.entities),
            ),
            f"configure-{number}",
            seconds=WAITS_SECONDS,
        )
        given = sent.form
        if not given.configure:
            continue
        wanted, faults = None, [] if given.by.strip() else [("by", "say who you are")]
        try:
            entered = Entered(given.entities, given.cadence, given.bodies, given.forward_to)
            wanted = take_wanted(entered, app)
        except BadConfiguration as problem:
            faults = [*problem.faults, *faults]
        if wanted is not None and not faults:
            return wanted, given.by.strip()
        titles = {name: field.title for name, field in Configure.model_fields.items()}
        refusal = refused_for([f"{titles[name]}: {reason}" for name, reason in faults])
    raise AssertionError("unreachable: counting does not end")


async def _verify(rt: Runtime, named: Named, steps: Steps, run_id: str) -> State[None]:
    """Take every step that can be taken; wait for the others.

    A connection that is replaced meanwhile hands its configuration on to its successor.
    """
    refusal, tried = await _take_last(rt, named), ""
    while True:
        async with rt.store.read() as session:
            known = await service.connection_of_run(session, run_id)
            if known is not None:
                named = await find_connection(session, known)
        if known is None:
            await rename(f"configure · {named.label} · replaced")
            return skipped(f"{named.label} was configured again by a later run")
        standing = await service.load_standing(rt, named.id)
        if standing.step == "first_read":
            if standing.obstacle is None and tried != READ:
                with suppress(StillFailing):  # the step is red; it is waited for, as other failures
                    await steps.once(first_read, named.id, name=READ, after=[WRITE])
                tried = READ
                continue
            refusal, tried = await _wait(rt, named, standing, refusal), ""
            continue
        before = READ if steps.is_done(READ) else WRITE
        await steps.once(verify_first_read, named.id, name=LISTED, after=[before])
        if standing.step == "webhooks":
            refusal = await _wait(rt, named, standing, refusal)
            continue
        await steps.once(verify_webhooks, named.id, name=WEBHOOKS, after=[LISTED])
        if standing.step == "reconcile":
            if tried != RECONCILE:
                await steps.once(clean_reconcile, named.id, name=RECONCILE, after=[WEBHOOKS])
                tried = RECONCILE
                continue
            refusal, tried = await _wait(rt, named, standing, refusal), ""
            continue
        await steps.once(conclude, named.id, name=VERIFIED, after=[RECONCILE])
        return await _end(named, standing)


async def _take_last(rt: Runtime, named: Named) -> str:
    """Take what this run was resumed with, also where nothing is waited for any more."""
    number = (await service.load_standing(rt, named.id)).row.answers
    given = await answered(Waiting, _key(number))
    return "" if given is None else await _take_answer(rt, named, number, given)


def _key(number: int) -> str:
    return f"answer-{number}"


async def _wait(rt: Runtime, named: Named, standing: ConfigurationStanding, refusal: str) -> str:
    """Suspended until the consumer, or a person, resumes the run; why that is not taken, if so."""
    number = await service.note_waiting(rt, named.id, standing.step, now=utcnow())
    what = {"first_read": "the first full read", "webhooks": "webhooks"}.get(
        standing.step, "a clean reconcile"
    )
    await rename(f"configure · {named.label} · waits for {what}")
    url = f"{rt.settings.resolved_public_url}/webhooks/{named.app}/{named.makini_key}"
    given = await wait_for(
        Waiting.with_initial_data(
            description=refusal
            + waiting_question(standing, url)
            + await step_of(standing.row.run_id or "")
        ),
        _key(number),
        seconds=WAITS_SECONDS,
    )
    return await _take_answer(rt, named, number, given)


async def _take_answer(rt: Runtime, named: Named, number: int, sent: SentForm[Waiting]) -> str:
    """Take it; why it is not taken, as the next form says it."""
    given = sent.form
    await service.take_answer(
        rt,
        named.id,
        number,
        accept=given.accept,
        by=given.by,
        note=given.note,
        now=sent.at,
    )
    return refused_for(["say who you are"] if given.accept and not given.by.strip() else [])


async def _end(named: Named, standing: ConfigurationStanding) -> State[None]:
    message = f"{named.label} is configured and verified: {standing.summary}"
    await rename(f"configure · {named.label} · verified")
    if not standing.entities:
        return Failed(message=f"{named.label} offers none of the entities it is configured for")
    return Completed(message=message)
