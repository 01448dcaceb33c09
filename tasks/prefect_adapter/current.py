"""The run we are in."""

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext


def current_run() -> FlowRun | None:
    """The flow run we are in; None outside of one."""
    context = FlowRunContext.get()
    return context.flow_run if context is not None else None
