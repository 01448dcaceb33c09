"""Every six hours: renew logins well before they end; announce those that can't be."""

from contextlib import suppress

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from flows.form import form
from tasks.graph import attempt, follow
from tasks.notify import NotDelivered, notify
from tasks.refresh_tokens import announce_ending, renew_tokens, report_expiry
from tasks.run import completed, only_one, open_runtime, rename, skipped
from tasks.task import StillFailing


@flow(name="refresh-tokens", flow_run_name="refresh-tokens", retries=0)
@form
async def refresh_tokens() -> State[None]:
    """Renew the tokens that end within 7 days, in `manage`; write the artifact `expiry`.

    It works while Linekeeper is paused, too: a token that ends can't wait. Ends `Failed` when
    Makini could not be asked about some.
    """
    async with open_runtime(), only_one("refresh-tokens") as held:
        if held is None:
            return skipped("Another run renews tokens already")
        trouble = ""
        renewed: list[str] = []
        renewal = await attempt(renew_tokens, quote(renewed))
        try:
            await renewal.aresult()
        except StillFailing as error:
            trouble = str(error)
        announced, announcement = await follow(announce_ending, before=[renewal])
        listed, page = await follow(report_expiry, before=[announcement])
        if announced:
            with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
                await follow(notify, [], before=[page])
        await completed("refresh-tokens")
        summary = (
            f"{len(renewed)} renewed, {announced} {'needs' if announced == 1 else 'need'} a login "
            f"soon, {listed} {'ends' if listed == 1 else 'end'} within 31 days"
        )
        await rename(f"refresh-tokens · {summary}")
        return Failed(message=f"{trouble}; {summary}") if trouble else Completed(message=summary)
