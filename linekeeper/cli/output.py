"""What a child says: all of it into its log, what matters onto the terminal."""

import asyncio
import os
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

MAX_LOG_BYTES = 10 * 1024 * 1024
MAX_LINE = 2_000
SHOWN_PER_WINDOW = 5
WINDOW_SECONDS = 10.0
_KEPT = 30
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Output:
    """The output of one process; `seen` are its last lines. While `hushed`, only its log grows."""

    def __init__(
        self,
        name: str,
        folder: Path,
        levels: Sequence[str],
        report: Callable[[str], None],
        hushed: Callable[[], bool],
    ) -> None:
        self.path = folder / f"{name.lower().replace(' ', '-')}.log"
        self._name = name
        self._levels = re.compile(rf"\b({'|'.join(levels)})\b") if levels else None
        self._report = report
        self._hushed = hushed
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._window = (0.0, 0)
        self._is_full = self._is_closed = False
        self._log: FileIO | None = None
        self._write(b"")

    @property
    def seen(self) -> str:
        """The last lines, as one text."""
        return "\n".join(self._lines)

    def last_words(self) -> str:
        """The last line that isn't empty: where a failing program says why."""
        return next((line for line in reversed(self._lines) if line.strip(" │╰╯─")), "").strip()

    async def read(self, pipe: int) -> None:
        """Read `pipe` to its end, line by line; closes it."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
        )
        rest = b""
        try:
            while chunk := await reader.read(65_536):
                self._write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
                rest = rest[-MAX_LINE:]
            if rest:
                self._take(rest)
        finally:
            transport.close()

    def close(self) -> None:
        """Close the log; what comes later is lost."""
        self._is_closed = True
        if self._log is not None:
            self._log.close()

    def _open(self) -> FileIO:
        return self.path.open("ab", buffering=0)

    def _write(self, chunk: bytes) -> None:
        """Into the log, as far as the disk has room; what it has none for is lost."""
        if self._is_closed:
            return
        try:
            if self._log is None:
                self._log = self._open()
            self._log.write(chunk)
            if self._log.tell() > MAX_LOG_BYTES:
                self.path.replace(self.path.with_suffix(".log.1"))
                log, self._log = self._log, self._open()
                log.close()
        except OSError as error:
            if not self._is_full:
                self._report(f"{self._name}: {self.path} can't be written: {error.strerror}")
            self._is_full = True
        else:
            self._is_full = False

    def _take(self, raw: bytes) -> None:
        line = _ESCAPES.sub("", raw[:MAX_LINE].decode("utf-8", "replace")).rstrip()
        self._lines.append(line)
        if self._levels is not None and self._levels.search(line) and not self._hushed():
            self._show(line)

    def _show(self, line: str) -> None:
        now = time.monotonic()
        since, shown = self._window
        if now - since > WINDOW_SECONDS:
            since, shown = now, 0
        self._window = (since, shown + 1)
        if shown < SHOWN_PER_WINDOW:
            self._report(f"{self._name}: {line.strip()}")
        elif shown == SHOWN_PER_WINDOW:
            self._report(f"{self._name}: … more in {self.path}")
