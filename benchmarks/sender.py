"""Sends a file of whole HTTP requests over many connections and times the answers.

`wrk` where it is installed; else this module itself as a process of its own, which takes more of
the machine from the server it measures.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

AT_ONCE = 64

_LUA = """
local file, size, log
function init(args)
  file = io.open(args[1], "rb")
  size = tonumber(args[2])
  file:seek("set", size * tonumber(args[3]))
  if args[4] then log = io.open(args[4], "w") end
end
function request()
  local raw = file:read(size)
  if raw == nil then
    if log then wrk.thread:stop() end
    file:seek("set", 0)
    raw = file:read(size)
  end
  return raw
end
"""
_LUA_LOG = """
function response(status, headers, body)
  log:write(status, " ", body, "\\n")
  log:flush()
end
"""
_LUA_DONE = """
function done(summary, latency, requests)
  io.write(string.format(
    '\\nRESULT {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "not_200": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, summary.errors.status))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """A file of requests, all of one length, of which the first to send is number `begin`."""

    path: Path
    length: int
    begin: int = 0

    def after(self, requests: int) -> "Load":
        """The rest of it; the whole once more if so many, and those under way, leave nothing."""
        begin = self.begin + requests + AT_ONCE
        left = self.path.stat().st_size // self.length - begin
        return replace(self, begin=begin if left > 0 else 0)


def sender() -> str:
    """What sends here: `wrk` or `python`."""
    return "wrk" if shutil.which("wrk") else "python"


def send(
    folder: Path, address: str, load: Load, *, seconds: float, log: Path | None = None
) -> dict[str, Any]:
    """Send `load` to `address` for `seconds`, from the file's beginning when it ends.

    With `log` each answer is written there (status and body) and the load is sent once at most.
    Returns `requests`, `seconds`, `p50_ms`, `p99_ms`, `not_200`.
    """
    arguments = [str(load.path), str(load.length), str(load.begin), *([str(log)] if log else [])]
    if sender() == "wrk":
        script = folder / ("log.lua" if log else "push.lua")
        script.write_text(_LUA + (_LUA_LOG if log else "") + _LUA_DONE)
        command = ["wrk", "-t1", f"-c{AT_ONCE}", f"-d{seconds:.0f}s", "--timeout", "10s"]
        command += ["-s", str(script), f"{address}/webhooks/default", "--", *arguments]
    else:
        command = [sys.executable, "-m", "benchmarks.sender", address, str(seconds), *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, Any] = json.loads(output.rpartition("RESULT ")[2])
    return figures


class _Sending(asyncio.Protocol):
    """One connection: the next request when the answer to the last one is whole."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._received = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) >= length:
            self._received = rest[length:]
            self._run.answered(head[9:12], rest[:length], time.perf_counter() - self._began)
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.ended()

    def _next(self) -> None:
        request = self._run.take()
        if request is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)


class _Run:
    def __init__(self, load: Load, seconds: float, log: Path | None) -> None:
        self._file = load.path.open("rb")
        self._file.seek(load.begin * load.length)
        self._length = load.length
        self._log = log.open("wb") if log else None
        self._until = time.perf_counter() + seconds
        self._open = AT_ONCE
        self._times: list[float] = []
        self._not_200 = 0
        self.done = asyncio.Event()

    def take(self) -> bytes | None:
        if time.perf_counter() > self._until:
            return None
        request = self._file.read(self._length)
        if not request and self._log is None:
            self._file.seek(0)
            request = self._file.read(self._length)
        return request or None

    def answered(self, status: bytes, body: bytes, seconds: float) -> None:
        self._times.append(seconds)
        self._not_200 += status != b"200"
        if self._log:
            self._log.write(b"%b %b\n" % (status, body))

    def ended(self) -> None:
        self._open -= 1
        if not self._open:
            self.done.set()

    def result(self, seconds: float) -> dict[str, Any]:
        self._file.close()
        if self._log:
            self._log.close()
        times = sorted(self._times)
        return {
            "requests": len(times),
            "seconds": seconds,
            "p50_ms": 1000 * times[len(times) // 2],
            "p99_ms": 1000 * times[int(len(times) * 0.99)],
            "not_200": self._not_200,
        }


async def _main(address: str, seconds: float, load: Load, log: Path | None) -> dict[str, Any]:
    began = time.perf_counter()
    run = _Run(load, seconds, log)
    where = urlsplit(address)
    loop = asyncio.get_running_loop()
    for _ in range(AT_ONCE):
        await loop.create_connection(lambda: _Sending(run), where.hostname or "", where.port or 80)
    await run.done.wait()
    return run.result(time.perf_counter() - began)


if __name__ == "__main__":
    import uvloop

    _, address, seconds, path, length, begin, *options = sys.argv
    load = Load(Path(path), int(length), int(begin))
    log = Path(options[0]) if options else None
    print("RESULT", json.dumps(uvloop.run(_main(address, float(seconds), load, log))))
