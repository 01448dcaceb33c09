"""Disconnecting a connection for good: first a preview, then with a typed confirmation."""

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import OneConnection, form
from linekeeper.customers.find import NotFound
from linekeeper.makini import MakiniError, ReadOnlyApp
from linekeeper.reconnect import disconnect as core
from linekeeper.reconnect.disconnect import DisconnectNotConfirmed
from linekeeper.reconnect.disconnect_page import disconnected_markdown, preview_markdown
from linekeeper.runtime import UnknownApp
from tasks.reconcile import purge_records
from tasks.reconnect import publish
from tasks.run import open_runtime, refused, rename


@flow(name="disconnect", flow_run_name="disconnect", retries=0)
@form
async def disconnect(
    connection: OneConnection,
    confirm: Annotated[
        str,
        Field(
            title="Confirm",
            description="Empty: only a preview. To do it, type Makini's key of the connection",
        ),
    ] = "",
    by: Annotated[str, Field(title="Your name", description="Who does it; kept in the audit")] = "",
) -> State[None]:
    """Delete a connection at Makini, destroy its tokens, return its credits; history stays.

    Without a confirmation it only says what would happen. There is no undo.
    """
    async with open_runtime() as rt:
        try:
            preview = await core.preview(rt, connection)
            if not confirm.strip():
                await publish(
                    "disconnect",
                    preview_markdown(preview),
                    description=f"Preview: {preview.named.label}",
                )
                for line in preview.lines:
                    get_run_logger().info("%s", line)
                await rename(f"disconnect · preview of {preview.named.label}")
                return Completed(message="Only a preview; see the artifact disconnect")
            sentence = await core.disconnect(rt, connection, confirm=confirm, by=by)
            await purge_records(preview.named.id, preview.named.label)
        except (NotFound, DisconnectNotConfirmed, ReadOnlyApp, UnknownApp) as error:
            return refused("connection", error, "Correct it and send the form again.")
        except MakiniError as error:
            return Failed(message=str(error))
        await publish(
            "disconnect",
            disconnected_markdown(preview, sentence, by=by),
            description=sentence,
        )
        await rename(f"disconnect · {preview.named.label}")
        return Completed(message=sentence)
