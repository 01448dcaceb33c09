"""The sign of life after a good sweep: whoever watches notices when it stays away."""

import httpx
from prefect import get_run_logger


async def heartbeat(url: str | None) -> None:
    """Ask for `url` (`HEARTBEAT_URL`), if there is one; a failure is logged and nothing more."""
    if not url:
        return
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.get(url)
            answer.raise_for_status()
    except httpx.HTTPError as error:
        get_run_logger().warning(
            "The heartbeat was not received (%s): check LINEKEEPER_HEARTBEAT_URL",
            type(error).__name__,
        )
