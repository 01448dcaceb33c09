"""What `linekeeper up` tells while it starts: a moving line on a terminal, else plain ones."""

import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from rich.console import Console
from rich.status import Status
from rich.text import Text

T = TypeVar("T")


class Progress:
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
        """Await `doing` as the step `name`; says so when it is done."""
        started = time.monotonic()
        self._under_way.append(name)
        self._update()
        try:
            result = await doing
        finally:
            self._under_way.remove(name)
            self._update()
        self._console.print(
            Text.assemble(("✓ ", "green"), name, (f"  {time.monotonic() - started:.1f} s", "dim"))
        )
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
