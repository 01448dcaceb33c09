"""What the form of a suspended run says above its fields, and saying it anew while it waits.

Prefect keeps it as it was when the run suspended. Somebody may open it days later.
"""

import json
from datetime import timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from linekeeper.clock import utcnow
from linekeeper.markdown import NOT_TAKEN

WRITTEN_WITHIN = timedelta(minutes=15)
"""A run writes its form right after it has suspended: one that has none after that lost it."""


async def renew(client: PrefectClient, run: FlowRun, words: str) -> bool:
    """Have the form of `run` say `words`, if it waits and says something else; whether it did.

    That its last answer was not taken is left in it. Raises as `client`.
    """
    keys = run.state.state_details.run_input_keyset if run.state and run.state.is_paused() else None
    if run.state is None or keys is None:
        return False
    key = keys["description"]
    said = await _said(client, run, key)
    if said is None and utcnow() - run.state.timestamp < WRITTEN_WITHIN:
        return False  # a run whose form is there before it writes it would fail
    refusal, end, _ = (said or "").partition("\n\n")
    if refusal.startswith(NOT_TAKEN) and not words.startswith(NOT_TAKEN):
        words = f"{refusal}{end}{words}"
    if said == words:
        return False
    try:
        if said is not None:
            await client.delete_flow_run_input(run.id, key)
        await client.create_flow_run_input(run.id, key, json.dumps(words))
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (404, 409):
            raise
        return False  # somebody else renews it just now, or the run is gone
    return True


async def _said(client: PrefectClient, run: FlowRun, key: str) -> str | None:
    try:
        return str(json.loads(await client.read_flow_run_input(run.id, key)))
    except PrefectHTTPStatusError as error:
        if error.response.status_code == 404:
            return None
        raise
