"""Steps of refresh-tokens: renew expiring logins, announce what can't be, show the horizon."""

from prefect import get_run_logger

from linekeeper.access.expiry import HORIZON, horizon, renew_ending
from linekeeper.clock import utcnow
from linekeeper.reconnect import ending
from linekeeper.text import counted, named
from linekeeper.views.expiry_page import expiry_markdown
from tasks.reconnect import publish
from tasks.run import runtime
from tasks.task import StillFailing, retry_policy, task


@task(
    name="refresh-tokens",
    task_run_name="renew expiring logins",
    **retry_policy(retries=3, first_wait=20, minutes=60),
)
async def renew_tokens(renewed: list[str]) -> None:
    """Renew what ends within 7 days, and add the names of what was to `renewed`, at every try.

    Raises `StillFailing` where Makini could not be asked.
    """
    result = await renew_ending(runtime(), now=utcnow())
    renewed += result.renewed
    log = get_run_logger()
    log.info("%d renewed, %d can't be", len(result.renewed), len(result.ending))
    for name, reason in list(result.failed.items())[:50]:
        log.warning("%s: %s", name, reason)
    if result.failed:
        logins = counted(len(result.failed), "login")
        raise StillFailing(f"{logins} could not be renewed: {named(sorted(result.failed))}")


@task(
    name="report-expiry",
    task_run_name="update expiry page",
    retries=2,
)
async def report_expiry() -> int:
    """Write the artifact `expiry`; returns how many logins are in it."""
    rt, now = runtime(), utcnow()
    expiries = await horizon(rt, until=now + HORIZON)
    await publish(
        "expiry",
        expiry_markdown(expiries, now=now),
        description=f"{len(expiries)} logins end within 31 days",
    )
    return len(expiries)


@task(
    name="announce-ending",
    task_run_name="announce logins that end",
    retries=2,
)
async def announce_ending() -> int:
    """Announce logins that end and nothing of ours renews; returns how many."""
    return await ending.announce_ending(runtime(), now=utcnow())
