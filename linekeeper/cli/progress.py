"""What `linekeeper up` asks and prints as it starts: a moving line on a terminal, or plain ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit

from rich.console import Console
from rich.status import Status
from rich.text import Text

T = TypeVar("T")


class StartProgress:
    """Steps under way and done, and lines for people; never wraps or colours a plain stream."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._under_way: list[str] = []
        self._status: Status | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show what is under way for the block, where that can be shown."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status("starting") as self._status:
            yield
        self._status = None

    async def step(self, name: str, doing: Awaitable[T]) -> T:
        """Await `doing` as the step `name`; says when it is done, or (it returns False) is not."""
        started = time.monotonic()
        self._under_way.append(name)
        self._update()
        try:
            result = await doing
        finally:
            self._under_way.remove(name)
            self._update()
        mark = ("✗ not yet: ", "yellow") if result is False else ("✓ ", "green")
        took = (f"  {time.monotonic() - started:.1f} s", "dim")
        self._console.print(Text.assemble(mark, name, took))
        return result

    def line(self, text: str) -> None:
        """Say `text`, now."""
        with suppress(OSError):  # a terminal that was closed must not keep us from ending
            self._console.print(Text(text))

    def good(self, text: str) -> None:
        """Say `text` so that it stands out."""
        self._console.print(Text(text, style="bold green"))

    def _update(self) -> None:
        if self._status is not None:
            self._status.update(f"starting: {', '.join(self._under_way)}")


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

    A worker says that it has started before the server knows of it, and a run that is due
    waits that long. `environment` has the API's address and credentials.
    """
    import httpx

    url = f"{environment['PREFECT_API_URL'].rstrip('/')}/work_pools/{pool}/workers/filter"
    headers = _credentials(environment)
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


async def are_runs_under_way(environment: Mapping[str, str]) -> bool:
    """Whether a run is being started, or runs, as Prefect says; it does not where it is silent."""
    import httpx

    url = f"{environment['PREFECT_API_URL'].rstrip('/')}/flow_runs/count"
    under_way = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
    headers = _credentials(environment)
    async with httpx.AsyncClient(trust_env=False, timeout=5, headers=headers) as client:
        try:
            return bool((await client.post(url, json=under_way)).raise_for_status().json())
        except (httpx.HTTPError, ValueError):
            return False


def _credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """The headers that a call of Prefect's API needs."""
    import base64

    if password := environment.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    if key := environment.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return {}
