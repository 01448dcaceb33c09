"""The day in one message and one artifact."""

from contextlib import suppress
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from tasks.digest import write_availability, write_digest
from tasks.graph import follow
from tasks.notify import NotDelivered, notify
from tasks.run import completed, is_paused, open_runtime, paused, rename


@flow(name="digest", flow_run_name="digest", retries=0)
@form
async def digest(
    tell: Annotated[
        bool, Field(title="Notify Slack", description="Off: only the artifact is written")
    ] = True,
) -> State[None]:
    """Say what happened since the last digest, how fast it was fixed, and what is ahead.

    Said once a day, however often it runs; the artifact is written anew each time.
    """
    if await is_paused():
        return paused()
    async with open_runtime():
        _, availability = await follow(write_availability)
        (sentence, ordering_key), written = await follow(
            write_digest, tell=tell, before=[availability]
        )
        if ordering_key:
            with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
                await follow(notify, [ordering_key], before=[written])
        await completed("digest")
    await rename(f"digest · {sentence.removeprefix('Digest: ')}")
    return Completed(message=sentence)
