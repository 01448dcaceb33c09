"""Steps of setting up a login: requirements, preflight, link, asked, login, verified, status."""

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from linekeeper.authentication_setup import service
from linekeeper.authentication_setup.ask import artifact_of, ask, url_of
from linekeeper.clock import utcnow
from linekeeper.views.connect_link_page import connect_link_markdown
from tasks.reconnect import publish
from tasks.run import runtime
from tasks.task import retry_policy, task


@task(name="confirm-requirements")
async def confirm_requirements(run_id: str) -> None:
    """Keep that the technical requirements are confirmed."""
    by = await service.confirm(runtime(), run_id, now=utcnow())
    get_run_logger().info("Technical requirements confirmed by %s", by)


@task(name="accept-preflight")
async def accept_preflight(run_id: str) -> None:
    """Say why the customer may be asked: preflight found nothing, or isn't waited for."""
    standing = await service.load_standing(runtime(), run_id, now=utcnow())
    if standing.row.without_preflight:
        get_run_logger().warning("Preflight was not waited for: somebody said so")
    else:
        get_run_logger().info("Preflight of %s found no problem", standing.subject.target)


@task(name="make-link")
async def make_link(run_id: str) -> None:
    """Make the link by which the customer logs in."""
    link = await service.make_link(runtime(), run_id, now=utcnow())
    get_run_logger().info("A link for %s, until %s UTC", link.system, f"{link.expires_at:%d %B}")


@task(name="ask-customer")
async def ask_customer(run_id: str) -> None:
    """Ask the customer to log in, and show the link."""
    rt = runtime()
    standing = await ask(rt, run_id, now=utcnow())
    row, link, label = standing.row, standing.link, standing.subject.label
    assert link is not None  # it was made in the step before
    url = await url_of(rt, link)
    how = "The customer is asked and reminded by mail." if row.is_mailed else "Please pass it on."
    await publish(
        artifact_of(row),
        connect_link_markdown(label, url, link.expires_at, how),
        description=label,
    )
    get_run_logger().info("%s: %s", label, how)


@task(name="note-login")
async def note_login(run_id: str) -> None:
    """Say that the customer has logged in."""
    standing = await service.load_standing(runtime(), run_id, now=utcnow())
    get_run_logger().info("%s: the customer has logged in", standing.subject.label)


@task(name="verify-token", **retry_policy(retries=4, first_wait=2, minutes=30))
async def verify_token(run_id: str) -> State[None]:
    """Read a record with the new token; it ends `Not read` where that shows nothing yet."""
    is_read, seen = await service.verify(runtime(), run_id, now=utcnow())
    get_run_logger().info("%s", seen)
    return Completed() if is_read else Completed(name="Not read", message=seen)


@task(name="first-status")
async def first_status(run_id: str) -> None:
    """Say how the connection is, and end the set-up."""
    get_run_logger().info("%s", await service.conclude(runtime(), run_id, now=utcnow()))
