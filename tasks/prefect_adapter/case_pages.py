"""Keeps the pages `reconnect-<incident>` true, by which operators pass connect links on."""

from hashlib import sha256

from prefect.client.orchestration import PrefectClient

from linekeeper.clock import utcnow
from linekeeper.reconnect.case import Case, load_case, shared_cases
from linekeeper.reconnect.page import artifact_of, case_markdown
from linekeeper.runtime import Runtime
from linekeeper.views.stamps import kept_stamps
from tasks.prefect_adapter.pages import put_artifact


async def keep_case_pages(rt: Runtime, client: PrefectClient) -> None:
    """Write anew those of open cases of several connections: Slack names the page for their links.

    Of a single one Slack has the link itself, and a sweep keeps its page.
    """
    for incident_id in await shared_cases(rt.store):
        case = await load_case(rt.store, incident_id, now=utcnow())
        if case is not None:
            await write_case_page(rt, client, case, only_if_changed=True)


async def write_case_page(
    rt: Runtime, client: PrefectClient, case: Case, *, only_if_changed: bool = False
) -> None:
    """Write the page of a case; that of one that is closed says when it was written."""
    key, title = artifact_of(case.incident.id), case.incident.title
    markdown = await case_markdown(rt, case)
    stamp = sha256(f"{title}\n{markdown}".encode()).hexdigest() if case.is_working else None
    if only_if_changed and stamp == (await kept_stamps(rt.store, [key])).get(key):
        return
    await put_artifact(rt, client, key, markdown, description=title, stamp=stamp)
