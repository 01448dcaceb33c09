"""Writes the pages of connections, the fleet, webhooks and the audit as Prefect's artifacts, and
keeps them true.

A sweep writes what it changed. Whatever else changes (a webhook, a login, an acknowledgement) the
consumer sees by the pages' stamps (`linekeeper.views.stamps`) and writes within seconds.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact as Stored
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from linekeeper.clock import utcnow
from linekeeper.markdown import literal, without_title
from linekeeper.notify.channels import artifact_ids, remember_artifact, with_artifacts
from linekeeper.notify.merged import FLEET
from linekeeper.notify.view import WEBHOOKS, Links
from linekeeper.runtime import Runtime
from linekeeper.store.leases import LeaseLost, holding
from linekeeper.views.audit import (
    MARKDOWN_ROWS,
    audit_headline,
    audit_markdown,
    issued_tokens,
    read_audit,
)
from linekeeper.views.connection_page import connection_headline, connection_markdown
from linekeeper.views.connections_page import (
    UNUSED_PART,
    headline,
    pages,
    part_key,
    parts,
    read_rows,
)
from linekeeper.views.fleet_page import fleet_headline, fleet_markdown
from linekeeper.views.fleet_queries import connection_reports, fleet_report
from linekeeper.views.parts import AUDIT, artifact_key
from linekeeper.views.stamps import (
    connection_stamps,
    connections_with_pages,
    fleet_stamp,
    kept_stamps,
    webhooks_stamp,
)
from linekeeper.views.webhook_figures import read_figures
from linekeeper.views.webhooks_page import webhooks_headline, webhooks_markdown
from tasks.prefect_adapter.links import forms_from_a_page, links_from_a_page, list_in_run

LEASE = "artifacts"
TRIES = 3
PAGES_A_STEP = 20
SMALL = 2
"""Parts of the page of all connections that are written whenever the fleet's page is; more are
left to the sweeps."""


async def keep_pages(rt: Runtime, client: PrefectClient) -> bool:
    """Write anew what shows what is not so any more; returns whether there is more."""
    configuration, now = await rt.configuration(), utcnow()
    links = await _links(rt, client, [FLEET])
    kept = (await kept_stamps(rt.store, [FLEET])).get(FLEET)
    if kept != await fleet_stamp(rt.store, configuration, links, now=now):
        await write_fleet_pages(rt, client)
        await write_all_connections(rt, client, most=SMALL)
    kept = (await kept_stamps(rt.store, [WEBHOOKS])).get(WEBHOOKS)
    if kept != await webhooks_stamp(rt.store):
        await write_webhooks_page(rt, client)
    ids = await connections_with_pages(rt.store)
    stamps = await connection_stamps(rt.store, configuration, ids, links, now=now)
    kept_by_key = await kept_stamps(
        rt.store, [artifact_key(stamp.slug) for stamp in stamps.values()]
    )
    untrue = [
        identifier
        for identifier, stamp in stamps.items()
        if stamp.value != kept_by_key.get(artifact_key(stamp.slug))
    ]
    await write_connection_pages(rt, client, untrue[:PAGES_A_STEP])
    return len(untrue) > PAGES_A_STEP


async def write_connection_pages(rt: Runtime, client: PrefectClient, ids: Sequence[str]) -> None:
    configuration, now = await rt.configuration(), utcnow()
    links = await _links(rt, client, [FLEET])
    # The stamps are older than what is shown: what changes in between is seen by the next look.
    stamps = await connection_stamps(rt.store, configuration, ids, links, now=now)
    for report in await connection_reports(rt.store, configuration, ids, now=now):
        stamp = stamps.get(report.connection.id)
        await put_artifact(
            rt,
            client,
            artifact_key(report.connection.slug),
            connection_markdown(report, links),
            description=connection_headline(report),
            stamp=stamp.value if stamp else None,
        )


async def write_all_connections(
    rt: Runtime, client: PrefectClient, *, most: int | None = None
) -> None:
    """Write `connections`, and its further parts where there are many; none if above `most`."""
    rows = await read_rows(rt.store)
    page_parts = parts(rows)
    if most is not None and len(page_parts) > most:
        return
    numbers = range(1, len(page_parts) + 1)
    keys = [*(artifact_key(row.slug) for row in rows), *map(part_key, numbers)]
    links = await with_artifacts(rt.store, await links_from_a_page(client), keys)
    for number, page in zip(numbers, pages(rows, links, utcnow()), strict=True):
        await put_artifact(rt, client, part_key(number), page, description=headline(rows))
    number = len(page_parts) + 1  # there were more connections once
    while await artifact_ids(rt.store, [part_key(number)]):
        await put_artifact(rt, client, part_key(number), UNUSED_PART, description=headline(rows))
        number += 1


async def write_fleet_pages(rt: Runtime, client: PrefectClient) -> None:
    configuration, now = await rt.configuration(), utcnow()
    links = await _links(rt, client, [])
    stamp = await fleet_stamp(rt.store, configuration, links, now=now)
    report = await fleet_report(rt.store, configuration, now=now)
    keys = [artifact_key(trouble_line.slug) for trouble_line in report.troubles]
    links = await with_artifacts(rt.store, links, keys)
    entries = await read_audit(rt.store, limit=MARKDOWN_ROWS)
    headline = await audit_headline(rt.store, now=now)
    taken = await issued_tokens(rt.store, since=now - timedelta(days=1))
    await put_artifact(
        rt,
        client,
        AUDIT,
        audit_markdown(headline, entries, taken, now=now),
        description=headline,
        stamp=stamp,
    )
    await put_artifact(
        rt,
        client,
        FLEET,
        fleet_markdown(report, links),
        description=fleet_headline(report),
        stamp=stamp,
    )


async def write_webhooks_page(rt: Runtime, client: PrefectClient) -> None:
    stamp = await webhooks_stamp(rt.store)
    figures = await read_figures(rt.store, sorted((await rt.configuration()).apps), now=utcnow())
    await put_artifact(
        rt,
        client,
        WEBHOOKS,
        webhooks_markdown(figures),
        description=webhooks_headline(figures),
        stamp=stamp,
    )


async def put_artifact(
    rt: Runtime,
    client: PrefectClient,
    key: str,
    markdown: str,
    *,
    description: str,
    stamp: str | None = None,
) -> None:
    """Write the artifact `key`: the one there is, so that its page and its links stay the same.

    It belongs to no run: Prefect would remove it with the run that wrote it first. A run lists it
    by a link. A page that nobody keeps true (it has no `stamp`) says when it was written. Prefect
    shows the `description`, which is plain text, as Markdown above the page: a title that says the
    same is left out.
    """
    markdown, description = without_title(markdown, description), literal(description)
    if stamp is None:
        markdown = f"{markdown.rstrip()}\n\n*Written {utcnow():%Y-%m-%d %H:%M:%S} UTC.*\n"
    shown = {"data": markdown, "description": description}
    identifier = (await artifact_ids(rt.store, [key])).get(key)
    if await _updated(client, identifier, shown):
        assert identifier is not None
        if stamp is not None:
            await remember_artifact(rt.store, key, identifier, now=utcnow(), stamp=stamp)
        await list_in_run(client, key, identifier, description=description)
        return
    identifier = await _made(rt, client, key, shown, stamp)
    await list_in_run(client, key, identifier, description=description)


async def _made(
    rt: Runtime,
    client: PrefectClient,
    key: str,
    shown: Mapping[str, str],
    stamp: str | None,
    *,
    tries: int = TRIES,
) -> str:
    """The id of the artifact `key`, made if Prefect has none. One at a time, or there were two.

    Where the lease is lost, as when the machine slept, it looks again: another may have made it.
    """
    try:
        async with holding(rt.store, LEASE, rt.owner, wait=True):
            return await _make(rt, client, key, shown, stamp)
    except LeaseLost:
        if tries == 1:
            raise
    return await _made(rt, client, key, shown, stamp, tries=tries - 1)


async def _make(
    rt: Runtime, client: PrefectClient, key: str, shown: Mapping[str, str], stamp: str | None
) -> str:
    known = await newest(client, key)
    if known is None:
        new = {"key": key, "type": "markdown", **shown}
        answer = await client.request("POST", "/artifacts/", json=new)
        identifier = str(answer.json()["id"])
    else:
        identifier = str(known.id)
        await _updated(client, identifier, shown)
    await remember_artifact(rt.store, key, identifier, now=utcnow(), stamp=stamp)
    return identifier


async def _updated(client: PrefectClient, identifier: str | None, shown: Mapping[str, str]) -> bool:
    """Whether the artifact is there, and shows it now; a new Prefect doesn't have it.

    Prefect's own methods would also emit an event with all of the page in it.
    """
    if identifier is None:
        return False
    try:
        await client.request(
            "PATCH", "/artifacts/{id}", path_params={"id": identifier}, json=dict(shown)
        )
    except (ObjectNotFound, PrefectHTTPStatusError) as error:
        if isinstance(error, ObjectNotFound) or error.response.status_code == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


async def newest(client: PrefectClient, key: str) -> Stored | None:
    artifacts = await client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), limit=200
    )
    return max(artifacts, key=lambda artifact: (artifact.created, artifact.id), default=None)


async def _links(rt: Runtime, client: PrefectClient, keys: Sequence[str]) -> Links:
    links = await forms_from_a_page(client, "check-connection", "explain")
    return await with_artifacts(rt.store, links, keys)
