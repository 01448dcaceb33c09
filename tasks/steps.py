"""Steps of a run that is suspended and resumed: each is one task run, with its edges.

A resumed run starts from the top. A step that this run has completed is not run again, so that its
graph shows it once; its state still gives the edge to what comes after it. One that ended with
another name than `Completed` came to its end without its result, and is taken again.
"""

from collections.abc import Sequence
from typing import Any

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.tasks import Task

from tasks.graph import edge, follow
from tasks.prefect_adapter.current import current_run
from tasks.prefect_adapter.names import every


class Steps:
    """The steps of this run by the name of their task run."""

    def __init__(self, done: dict[str, State[Any]]) -> None:
        self._done = done

    @classmethod
    async def of_this_run(cls) -> "Steps":
        """Those that were completed before it was suspended."""
        run = current_run()
        done: dict[str, State[Any]] = {}
        if run is not None:
            async with get_client() as client:
                ours = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
                runs = await every(client.read_task_runs, flow_run_filter=ours)
            for task_run in runs:
                if task_run.state is not None and task_run.state.name == "Completed":
                    done[task_run.name] = edge(run.id, task_run.id)
        return cls(done)

    def is_done(self, name: str) -> bool:
        """Whether the step has been completed in this run."""
        return name in self._done

    async def once(
        self, task: Task[..., Any], *args: Any, name: str, after: Sequence[str] = ()
    ) -> None:
        """Run `task` as the step `name` after other steps, unless it was completed before."""
        if name in self._done:
            return
        before = [self._done.get(step) for step in after]
        _, state = await follow(task.with_options(task_run_name=name), *args, before=before)
        if state.name == "Completed":
            self._done[name] = state
