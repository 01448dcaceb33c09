"""Edges of a run's graph, and the red task runs in it.

A task that comes after another waits for it, however that one ended: Prefect draws the line from
what a task waited for.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import State, StateDetails
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed
from prefect.tasks import Task

from linekeeper.notify.channels import with_artifacts
from linekeeper.notify.view import Links
from linekeeper.views.parts import artifact_key
from linekeeper.views.tags import Tagged
from tasks.prefect_adapter.links import ui_url
from tasks.run import runtime
from tasks.task import task


def edge(flow_run_id: UUID | None, task_run_id: UUID | None) -> State[Any]:
    """What a task waits for to be drawn after a task run that is over: an edge needs no result."""
    details = StateDetails(flow_run_id=flow_run_id, task_run_id=task_run_id)
    return Completed(data=True, state_details=details)


def after(*states: State[Any] | None) -> list[State[Any]]:
    """What `wait_for` takes to have a task come after those of `states` that there are."""
    details = [state.state_details for state in states if state is not None]
    return [edge(known.flow_run_id, known.task_run_id) for known in details]


async def attempt(
    step: Task[..., Any], *args: Any, before: Sequence[State[Any] | None] = (), **kwargs: Any
) -> State[Any]:
    """Run `step` after those of `before` that there are, and return how it ended."""
    _forget_results()
    state: State[Any] = await step(*args, wait_for=after(*before), return_state=True, **kwargs)
    _forget_results()
    return state


def _forget_results() -> None:
    """Have Prefect draw the edges that are said, and no others.

    It also guesses them, by the addresses in memory of what earlier tasks returned: an empty text
    is in one place for all, and what is gone leaves its place to something else.
    """
    context = FlowRunContext.get()
    if context is not None:
        context.run_results.clear()


async def follow(
    step: Task[..., Any], *args: Any, before: Sequence[State[Any] | None] = (), **kwargs: Any
) -> tuple[Any, State[Any]]:
    """The same; returns its result, and the state to follow it. Raises what went wrong in it."""
    state = await attempt(step, *args, before=before, **kwargs)
    return await state.aresult(), state


@task(name="in-trouble", task_run_name="{name}")
async def _in_trouble(name: str, sentence: str) -> State[None]:
    """A failed task run that carries the name of who is in trouble."""
    return Failed(message=sentence if name in sentence else f"{name}: {sentence}")


async def show_in_trouble(
    name: str, sentence: str, about: Tagged | None, *, before: Sequence[State[Any] | None]
) -> State[None]:
    """A failed task run named after who is in trouble, tagged, with a link to the page.

    Its failure is the message, and not the run's: it is returned, not raised.
    """
    tags = list(about.tags) if about else []
    message = f"{sentence} · {await _page(about)} (its page)" if about else sentence
    return await attempt(_in_trouble.with_options(tags=tags), name, message, before=before)


async def _page(about: Tagged) -> str:
    """The address of the connection's page in Prefect."""
    async with get_client() as client:
        links = Links(ui_url=ui_url(client))
    key = artifact_key(about.slug)
    return (await with_artifacts(runtime().store, links, [key])).artifact(key) or ""
