"""What Prefect shows of a parameter in its forms, said where Prefect itself reads it."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import takewhile
from operator import eq
from typing import Annotated, Any, Generic, TypeVar, cast, get_type_hints

from prefect import get_client, get_run_logger
from prefect.client.base import ServerType, determine_server_type
from prefect.client.schemas.objects import State
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from prefect.input.run_input import keyset_from_base_key
from prefect.states import Failed
from pydantic import BaseModel, Field, WithJsonSchema
from pydantic.fields import FieldInfo

from linekeeper.clock import as_utc, utcnow
from linekeeper.refusal import Refusal
from tasks.ending import EXPECTED, TakenOver, reason_of
from tasks.prefect_adapter.current import current_run
from tasks.run import REFUSED, by_hand, call_refused, called_now, refused, rename, skipped

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
Answer_co = TypeVar("Answer_co", bound=RunInput, covariant=True)
NAME = "by"
"""The parameter *Your name*."""
MOST_REPEATED = 120
"""Characters of a text that was entered which a refusal repeats."""
Day = Annotated[date | str, WithJsonSchema({"type": "string", "format": "date"})]
"""A day, picked in a calendar. One that is none is refused by the flow, with its other faults:
Prefect would fail the run for it, and nobody would see the others."""
Moment = Annotated[datetime | str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""The same for a day with a time."""

OneConnection = Annotated[
    str,
    Field(
        title="Connection",
        description="Its name, `Customer · System`, a tag, or Makini's key",
        examples=["Acme Metals · SAP ECC"],
        min_length=1,
    ),
]
Implementation = Annotated[
    str,
    Field(
        title="Implementation",
        description="Its title, its short name, or its customer",
        min_length=1,
    ),
]
CommittedDay = Annotated[
    Day | None, Field(title="Committed go-live", description="The date promised to the customer")
]


def day_of(field: str, given: Day | None) -> date | None:
    """The day that was picked; None for none. Raises `Refusal`."""
    if given is None or isinstance(given, date):
        return given
    try:
        return date.fromisoformat(given.strip()) if given.strip() else None
    except ValueError:
        raise Refusal(field, f"{given[:40]!r} is no date, such as 2026-11-30") from None


def moment_of(field: str, given: Moment | None) -> datetime | None:
    """The moment that was picked, in UTC; None for none. Raises `Refusal`."""
    try:
        moment = datetime.fromisoformat(given.strip()) if isinstance(given, str) else given
        return None if moment is None else as_utc(moment)
    except (ValueError, OverflowError):
        raise Refusal(
            field, f"{str(given)[:40]!r} is no time, such as 2026-11-30T08:00:00+00:00"
        ) from None


@dataclass(frozen=True, slots=True)
class SentForm(Generic[Answer_co]):
    """The form of a suspended run, as somebody sent it."""

    form: Answer_co
    at: datetime
    """When they sent it. The run may take it up much later: once there is a worker again."""


async def answered(asked: type[Answer_co], key: str) -> SentForm[Answer_co] | None:
    """What this run was resumed with, where it was suspended under `key`; None if it wasn't."""
    run = current_run()
    assert run is not None  # only a run has a form
    name = keyset_from_base_key(f"suspended-{key}")["response"]
    async with get_client() as client:
        kept = await client.filter_flow_run_input(run.id, name, 1, set())
    if not kept:
        return None
    # Prefect stores it in the moment in which it is sent, by its own machine's clock.
    sent, now = kept[0].created, utcnow()
    # A time of Prefect's own class can't be written into every database.
    at = now if sent is None else datetime.combine(sent.date(), sent.timetz())
    return SentForm(asked(**kept[0].decoded_value), min(as_utc(at), now))


async def wait_for(asked: type[Answer_co], key: str, *, seconds: int) -> SentForm[Answer_co]:
    """Suspend this run until somebody sends its form; returns at once if they have."""
    await asuspend_flow_run(wait_for_input=asked, timeout=seconds, key=key)
    sent = await answered(asked, key)
    assert sent is not None  # or Prefect would not have let it go on
    return sent


def form(flow_function: F) -> F:
    """Give a flow's parameters the titles and descriptions of their `Annotated[…, Field()]`.

    Prefect puts the parameter's name and the docstring's words over those, so a form deployed by
    `prefect deploy` would not have them. What is in the extras of the schema it leaves alone. (A
    `Field` as the default it reads too, but hands that to a run in which the parameter is omitted.)
    A parameter without a title has its name as one. *Your name* that is left empty is that of
    whoever started the run, where Prefect knows people; there it need not be filled in.
    """
    signature = inspect.signature(flow_function)
    hints = get_type_hints(flow_function, include_extras=True)
    for name in signature.parameters:
        labels = getattr(hints[name], "__metadata__", ())
        label = next((label for label in labels if isinstance(label, FieldInfo)), FieldInfo())
        extra: dict[str, Any] = {"title": label.title or name.replace("_", " ").capitalize()}
        if label.description:
            extra["description"] = label.description
        of = str if name == NAME and _may_be_empty(signature) else hints[name]
        flow_function.__annotations__[name] = Annotated[of, Field(json_schema_extra=extra)]
    named = _with_name(flow_function) if NAME in signature.parameters else flow_function
    return _saying_how_it_ended(named)


def _saying_how_it_ended(flow_function: F) -> F:
    """End the run by plain words, also where it could not do its work.

    The Runs page shows by its name that a form was refused, and which one. What Makini, a system,
    Slack or the database kept it from doing is the message of a failed run, not an exception. One
    that stood still for so long that another took over ends `Skipped`, as it would have if the
    other had been first.
    """

    @functools.wraps(flow_function)
    async def said(*given: Any, **kwargs: Any) -> Any:
        try:
            ended = await flow_function(*given, **kwargs)
        except TakenOver as taken:
            if taken.by is None:
                return Failed(
                    message=f"{_STOOD_STILL} Nobody has taken over: run it again. {_KEPT}"
                )
            await rename(f"{called_now()} · taken over")
            return skipped(f"{_STOOD_STILL} {taken.by} took over. {_KEPT}")
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            get_run_logger().warning("%s", reason, exc_info=not isinstance(error, EXPECTED))
            again = "Run it again once that is over" if by_hand() else "Its next run goes on"
            return Failed(message=f"{reason}. {again}. {_KEPT}")
        if isinstance(ended, State) and ended.name == REFUSED:
            ended.message = _without_long_input(ended.message or "", [*given, *kwargs.values()])
            await call_refused()
        return ended

    return cast("F", said)


def _without_long_input(message: str, entered: object) -> str:
    """`message`, which repeats of what was `entered` and is long only the beginning."""
    for whole in _texts(entered):
        for text in (whole, whole.strip(), repr(whole)[1:-1], repr(whole.strip())[1:-1]):
            beginning, rest = text[: MOST_REPEATED + 1], text[MOST_REPEATED + 1 :]
            at = message.find(beginning) if rest else -1
            while at >= 0:
                after = message[at + len(beginning) :]
                same = sum(1 for _ in takewhile(bool, map(eq, rest, after)))
                message = f"{message[: at + MOST_REPEATED]}…{after[same:]}"
                at = message.find(beginning, at + len(beginning))
    return message


def _texts(entered: object) -> Iterator[str]:
    """Every text in what was entered."""
    if isinstance(entered, str):
        yield entered
    elif isinstance(entered, BaseModel):
        yield from _texts(list(dict(entered).values()))
    elif isinstance(entered, list):
        for part in entered:
            yield from _texts(part)


_STOOD_STILL = (
    "This run stood still for longer than its lease lasts (its process or its machine was "
    "suspended, or the database could not be reached), and has stopped."
)
_KEPT = "Nothing is lost: what it had done by then is kept."


def _may_be_empty(signature: inspect.Signature) -> bool:
    """Whether a name that has to be entered elsewhere is known to Prefect: Cloud has users."""
    required = signature.parameters[NAME].default is inspect.Parameter.empty
    return required and determine_server_type() == ServerType.CLOUD


def _with_name(flow_function: F) -> F:
    signature = inspect.signature(flow_function)  # with the words it has by now
    shown, needed = signature, _may_be_empty(signature)
    if needed:
        shown = signature.replace(
            parameters=[
                parameter.replace(default="") if name == NAME else parameter
                for name, parameter in signature.parameters.items()
            ]
        )

    @functools.wraps(flow_function)
    async def named(*given: Any, **kwargs: Any) -> Any:
        bound = shown.bind(*given, **kwargs)
        bound.apply_defaults()
        bound.arguments[NAME] = bound.arguments[NAME].strip() or creator()
        if needed and not bound.arguments[NAME]:
            return refused(NAME, "nobody is named, and Prefect does not know it", "Enter it.")
        return await flow_function(*bound.args, **bound.kwargs)

    if needed:
        cast("Any", named).__signature__ = shown
        named.__annotations__ = flow_function.__annotations__
    return cast("F", named)


def creator() -> str:
    """Who started this run, where Prefect knows; an open-source server knows nobody."""
    run = current_run()
    made = run.created_by if run else None
    return (made.display_value or "").strip() if made and made.type == "USER" else ""
