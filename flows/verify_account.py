"""Finding out on the operator's own account which assumptions about Makini hold."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import form
from linekeeper.makini import MakiniError
from linekeeper.runtime import UnknownApp
from linekeeper.verify_account.service import CALLS, Wish, WriteNotConfirmed, counts
from tasks.run import open_runtime, refused, rename
from tasks.verify_account import ask, publish_answers


@flow(name="verify-account", flow_run_name="verify-account", retries=0)
@form
async def verify_account(
    app: Annotated[str, Field(title="App", description="Which Makini app")] = "default",
    data: Annotated[
        bool,
        Field(
            title="Read data",
            description="Read statuses and records with the tokens that Linekeeper holds",
        ),
    ] = False,
    write_on: Annotated[
        str,
        Field(
            title="Mint on",
            description="Makini's key of the one connection to mint a token for; empty: none. "
            "Other tokens of that connection may end",
        ),
    ] = "",
    confirm: Annotated[str, Field(title="Confirm", description="The same key again")] = "",
    calls: Annotated[
        int, Field(title="Calls", description="How many calls may be made", ge=1)
    ] = CALLS,
    again: Annotated[
        bool, Field(title="Begin anew", description="Forget what an earlier run recorded")
    ] = False,
) -> State[None]:
    """Test the assumptions about Makini that settings stand for; only reads unless you say so."""
    wish = Wish(data=data, write_on=write_on, confirm=confirm, calls=calls, again=again)
    async with open_runtime():
        try:
            verification = await ask(app, wish)
        except MakiniError as error:
            return Failed(message=str(error))
        if isinstance(verification, (UnknownApp, WriteNotConfirmed)):
            return refused("app", verification, "Correct it and send the form again.")
        await publish_answers(verification)
    await rename(f"verify-account · {counts(verification)}")
    if verification.unanswered:
        return Failed(
            message="Not answered, and asked again by the next run: "
            + "; ".join(verification.unanswered)
        )
    return Completed(message=counts(verification))
