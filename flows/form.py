"""What Prefect shows of a parameter in its forms, said where Prefect itself reads it."""

import inspect
from collections.abc import Callable
from typing import TypeVar, get_type_hints

from pydantic.fields import FieldInfo

F = TypeVar("F", bound=Callable[..., object])


def form(flow_function: F) -> F:
    """Give a flow's parameters the titles and descriptions of their `Annotated[…, Field()]`.

    Prefect reads neither there: it takes a description from the docstring or from a `Field` that is
    the default, and a title from that one's extras. So the signature has such defaults; a call
    resolves them. A parameter without a title has its name as one.
    """
    hints = get_type_hints(flow_function, include_extras=True)
    signature = inspect.signature(flow_function)
    parameters = []
    for parameter in signature.parameters.values():
        labels = getattr(hints.get(parameter.name), "__metadata__", ())
        label = next((label for label in labels if isinstance(label, FieldInfo)), None)
        parameters.append(_shown(parameter, hints, label or FieldInfo()))
    flow_function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return flow_function


def _shown(
    parameter: inspect.Parameter, hints: dict[str, object], label: FieldInfo
) -> inspect.Parameter:
    title = label.title or parameter.name.replace("_", " ").capitalize()
    shown = FieldInfo(description=label.description, json_schema_extra={"title": title})
    if parameter.default is not parameter.empty:
        shown.default = parameter.default
    return parameter.replace(annotation=hints[parameter.name], default=shown)
