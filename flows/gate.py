"""One open gate that waits for a person: suspended until its form is sent."""

from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from flows.form import SentForm, answered, form, wait_for
from linekeeper.clock import utcnow
from linekeeper.implementation.answer import (
    AnswerOutcome,
    GateAnswer,
    GateQuestion,
    NoSuchGate,
    answer,
    ask,
)
from linekeeper.implementation.news import run_name
from linekeeper.runtime import Runtime
from tasks.implementation import publish, this_run
from tasks.implementation_forms import gate_question, retag
from tasks.run import open_runtime, refused, rename, skipped

WAITS_SECONDS = 2 * 365 * 86_400
"""Prefect's own time-out, far beyond any implementation: when one is late is decided by us."""


class GateForm(RunInput):
    """What the person who sees to the gate says of it."""

    outcome: Literal["done", "blocked", "carry on"] = Field(
        title="Outcome",
        default="done",
        description="blocked: it can't be worked on for now. carry on: it can again",
    )
    evidence: str = Field(
        title="Evidence, or the reason",
        description="done: what shows it (a link, a ticket, who tested what). blocked: what keeps "
        "it from being done. carry on: what has changed",
        min_length=1,
    )
    by: str = Field(title="Your name", description="Who says so; kept in the audit", min_length=1)
    note: str = Field(
        title="Note",
        default="",
        description="Stays with the step; of one that is the customer's it is on their page too",
    )
    whose_turn: Literal["us", "customer", "makini"] = Field(
        title="Waiting on, if blocked", default="customer"
    )


@flow(name="gate", flow_run_name="gate", retries=0)
@form
async def gate(
    gate: Annotated[
        str,
        Field(title="Gate", description="The id of an open gate; Linekeeper starts these runs"),
    ],
) -> State[None]:
    """Wait, suspended, until somebody says that a step of an implementation is done.

    It may say *blocked* and *carry on* as often as need be. A form for a step that is done already
    changes nothing.
    """
    run_id = this_run()
    async with open_runtime() as rt:
        while True:
            try:
                asked = await ask(rt.store, gate, run_id=run_id)
            except NoSuchGate as error:
                return refused("gate", error, "Runs of gates are started by Linekeeper.")
            name = run_name(asked.standing, asked.row)
            number = asked.row.answers
            given = await answered(GateForm, _key(number))
            if given is None and not asked.settled:
                given = await _wait(asked, name)
            taken = await _take(rt, gate, given, number) if given is not None else None
            if asked.settled or taken is None:
                await rename(f"{name} · {asked.ended}")
                return skipped(asked.why)
            if taken.refused:
                get_run_logger().warning("The answer was not taken: %s", taken.message)
            else:
                get_run_logger().info("%s", taken.message)
            if taken.settled:
                await publish([asked.standing.implementation.id])
                await rename(f"{name} · {'done' if taken.progress else 'settled before'}")
                return Completed(message=taken.message)


async def _take(rt: Runtime, gate_id: str, sent: SentForm[GateForm], number: int) -> AnswerOutcome:
    given = sent.form
    return await answer(
        rt.store,
        gate_id,
        GateAnswer(given.outcome, given.evidence, given.note, given.whose_turn, given.by, sent.at),
        number=number,
        run_id=this_run(),
        now=utcnow(),
    )


def _key(number: int) -> str:
    return f"answer-{number}"


async def _wait(asked: GateQuestion, name: str) -> SentForm[GateForm]:
    """Suspended until somebody sends the form."""
    await rename(f"{name} · answer not taken" if asked.row.refusal else name)
    await retag(asked)
    await publish([asked.standing.implementation.id])
    return await wait_for(
        GateForm.with_initial_data(description=await gate_question(asked)),
        _key(asked.row.answers),
        seconds=WAITS_SECONDS,
    )
