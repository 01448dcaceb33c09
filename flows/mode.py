"""Observe or manage, connection by connection: first a dry run, then with a typed phrase."""

from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.access.modes import BadRule, WantedMode, change, find_subjects, preview_change
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.text import named
from linekeeper.views.mode_page import done_markdown, dry_run_markdown
from tasks.reconnect import publish
from tasks.run import open_runtime, refused, rename


@flow(name="mode", flow_run_name="mode", retries=0)
@form
async def mode(
    names: Annotated[
        list[str],
        Field(
            title="Names",
            description="Which ones: connections by name, `Customer · System` or Makini's key; or "
            "customers, tags or apps by name",
            min_length=1,
        ),
    ],
    of: Annotated[
        Literal["connections", "customers", "tags", "apps"],
        Field(title="Names of", description="The most specific rule counts: connection first"),
    ] = "connections",
    set_to: Annotated[
        Literal["observe", "manage", "leave as it is", "clear the rule"],
        Field(title="Mode", description="Clear the rule: the less specific ones hold again"),
    ] = "leave as it is",
    customers: Annotated[
        Literal["notify", "do not notify", "leave as it is"],
        Field(title="Their customers", description="Whether they are notified"),
    ] = "leave as it is",
    confirm: Annotated[
        str,
        Field(
            title="Confirm",
            description="Empty: a dry run. To do it, type what the dry run says, as `manage 10`",
        ),
    ] = "",
    stop_renewing: Annotated[
        bool,
        Field(
            title="Stop renewing",
            description=(
                "Also observe connections whose tokens Linekeeper renews; those tokens then expire"
            ),
        ),
    ] = False,
    by: Annotated[str, Field(title="Your name", description="Who does it; kept in the audit")] = "",
) -> State[None]:
    """Observe or manage some connections, and say whether their customers are written to.

    Without a confirmation it only says what would happen.
    """
    clears = set_to == "clear the rule"
    wanted_mode = set_to if set_to in ("observe", "manage") else None
    notify = {"notify": True, "do not notify": False}.get(customers)
    async with open_runtime() as rt:
        try:
            if not clears and wanted_mode is None and notify is None:
                raise BadRule("set_to", "nothing is to change")
            if clears and notify is not None:
                raise BadRule(
                    "customers", "a rule that is cleared says nothing about customers either"
                )
            subjects = await find_subjects(rt, **{of: [name.strip() for name in names]})
            wanted = WantedMode(subjects, wanted_mode, notify, clears)
            labels = named(subject.label for subject in subjects)
            if not confirm.strip():
                seen = await preview_change(rt, wanted, now=utcnow())
                phrase = wanted.phrase(seen.named)
                refusal = seen.why_not if seen.left and not stop_renewing else None
                page = dry_run_markdown(phrase, seen.lines(done=False), refusal)
                await _publish(f"Dry run: {phrase}", seen.lines(done=False), page)
                await rename(f"mode · dry run for {labels}")
                return Completed(message=f"Dry run; artifact mode. To do it, confirm: {phrase}")
            if not by.strip():
                raise BadRule("by", "say who you are; it is kept in the audit")
            seen = await change(
                rt, wanted, by=by, now=utcnow(), stop_renewing=stop_renewing, confirm=confirm
            )
        except (BadRule, NotFound) as error:
            return refused("names", error, "Correct it and send the form again.")
        said = wanted.phrase(seen.named)
        lines = seen.lines(done=True)
        await _publish(f"Done: {said}", lines, done_markdown(said, lines, by=by))
        await rename(f"mode · {said} · {labels}")
        return Completed(message=" ".join(lines)[:1_000])


async def _publish(title: str, lines: list[str], page: str) -> None:
    for line in lines:
        get_run_logger().info("%s", line)
    await publish("mode", page, description=title)
