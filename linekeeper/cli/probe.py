"""Whether something answers over HTTP, and whether a worker takes runs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

_SECONDS = 2.0
_LOOK_SECONDS = 0.5


def answers(url: str) -> Callable[[], Awaitable[bool]]:
    """The question whether `url` (`http://…`) answers 200 now; never raises."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    request = f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"

    async def ask() -> bool:
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(request.encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            return False

    return ask


async def worker_online(environment: Mapping[str, str], pool: str, *, seconds: float) -> bool:
    """Wait until Prefect knows of a worker of `pool` that takes runs; False after `seconds`.

    A worker says that it has started before the server has heard of it, and a run that is due
    waits that long. `environment` has the API's address and credentials.
    """
    import base64

    import httpx

    headers = {}
    if password := environment.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
    elif key := environment.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    url = f"{environment['PREFECT_API_URL'].rstrip('/')}/work_pools/{pool}/workers/filter"
    async with httpx.AsyncClient(trust_env=False, timeout=5, headers=headers) as client:
        for _ in range(int(seconds / _LOOK_SECONDS)):
            try:
                answer = await client.post(url, json={})
                if answer.is_success and any(
                    worker["status"] == "ONLINE" for worker in answer.json()
                ):
                    return True
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                pass
            await asyncio.sleep(_LOOK_SECONDS)
    return False
