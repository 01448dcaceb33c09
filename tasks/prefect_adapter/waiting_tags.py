"""The tags `waiting:…` of runs: whom a run waits for. One that is over waits for nobody."""

from collections.abc import Iterable

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES

from tasks.prefect_adapter.names import PAGE, tag

WAITING = "waiting:"
WHOM = ("customer", "us", "makini")


def without_waiting(tags: Iterable[str]) -> list[str]:
    """`tags` without whom a run waits for."""
    return sorted({tag for tag in tags if not tag.startswith(WAITING)})


async def untag_what_is_over(client: PrefectClient) -> int:
    """Take the tags off runs that are over; returns how many. Raises as `client`.

    A run does so itself at its end; one that crashed, was cancelled or ran out of time can't.
    """
    whom = [f"{WAITING}{each}" for each in WHOM]
    over = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag()], any_=whom),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))),
    )
    runs = await client.read_flow_runs(flow_run_filter=over, limit=PAGE)
    for run in runs:
        await client.update_flow_run(run.id, tags=without_waiting(run.tags))
    return len(runs)
