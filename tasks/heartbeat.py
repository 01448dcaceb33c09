"""The sign of life after a good sweep: whoever watches notices when it stays away."""

import asyncio

import httpx
from prefect import get_run_logger

SECONDS = 10.0
"""All of it takes no longer."""


async def heartbeat(url: str | None) -> None:
    """Ask for `url` (`HEARTBEAT_URL`), if there is one; a failure is logged and nothing more.

    What is answered behind the head is not read: it may have no end.
    """
    if not url:
        return
    try:
        async with (
            asyncio.timeout(SECONDS),
            httpx.AsyncClient(timeout=SECONDS) as client,
            client.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        get_run_logger().warning(
            "The heartbeat was not received (%s): check LINEKEEPER_HEARTBEAT_URL",
            type(error).__name__,
        )
