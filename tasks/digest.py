"""Steps of the digest: the artifact, and the message."""

from prefect import get_client

from linekeeper.availability.service import markdown as availability_page
from linekeeper.availability.service import read_month, sentence
from linekeeper.clock import utcnow
from linekeeper.notify.channels import with_artifacts
from linekeeper.views.digest_page import gather, headline, markdown, say_digest
from tasks.prefect_adapter.links import find_links
from tasks.report import put_artifact
from tasks.run import runtime
from tasks.task import task

DIGEST = "digest"
AVAILABILITY = "availability"


@task(
    name="write-availability",
    task_run_name="update availability page",
    retries=2,
)
async def write_availability() -> None:
    """Write the artifact `availability`: per customer, the minutes by what was waited for."""
    month = await read_month(runtime().store, None, now=utcnow())
    async with get_client() as client:
        await put_artifact(
            client, AVAILABILITY, availability_page(month), description=sentence(month)
        )


@task(name="write-digest", task_run_name="update digest page", retries=2)
async def write_digest(*, tell: bool) -> tuple[str, str]:
    """Write the artifact `digest`, and with `tell` the outbox row; returns headline and order."""
    rt = runtime()
    day = await gather(rt.store, (await rt.configuration()).apps, now=utcnow())
    async with get_client() as client:
        await put_artifact(client, DIGEST, markdown(day), description=headline(day))
        links = await with_artifacts(rt.store, await find_links(client), [DIGEST])
    ordering_key = await say_digest(rt.store, day, links) if tell else ""
    return headline(day), ordering_key
