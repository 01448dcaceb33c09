"""What Prefect shows of a parameter in its forms, said where Prefect itself reads it."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import Field
from pydantic.fields import FieldInfo

F = TypeVar("F", bound=Callable[..., object])


def form(flow_function: F) -> F:
    """Give a flow's parameters the titles and descriptions of their `Annotated[…, Field()]`.

    Prefect puts the parameter's name and the docstring's words over those, so a form deployed by
    `prefect deploy` would not have them. What is in the extras of the schema it leaves alone. (A
    `Field` as the default it reads too, but hands that to a run in which the parameter is omitted.)
    A parameter without a title has its name as one.
    """
    hints = get_type_hints(flow_function, include_extras=True)
    for name in inspect.signature(flow_function).parameters:
        labels = getattr(hints[name], "__metadata__", ())
        label = next((label for label in labels if isinstance(label, FieldInfo)), FieldInfo())
        extra: dict[str, Any] = {"title": label.title or name.replace("_", " ").capitalize()}
        if label.description:
            extra["description"] = label.description
        flow_function.__annotations__[name] = Annotated[hints[name], Field(json_schema_extra=extra)]
    return flow_function
