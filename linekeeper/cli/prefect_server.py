"""Prefect's server as `linekeeper up` starts it: `python -m linekeeper.cli.prefect_server`.

It is what `prefect server start` runs, with two things more. It looks once a second for what its
own services have to do, of which each is due every five seconds at most. Prefect looks four times,
and is at work for half as long again while nobody asks it anything. And on SQLite, Prefect answers
503 where another of its transactions has written between the reading and the writing of one request
(`SQLITE_BUSY_SNAPSHOT`: it begins them deferred). Prefect's clients repeat such a call, its UI does
not, so that what a person sends would be lost beside a sweep: the answer of a form, a run that is
started, a block, variable, deployment or automation that is saved. Here these are repeated; each
is one transaction, which left nothing.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from functools import partial
from inspect import signature
from typing import Any

from linekeeper.garbage import collect_seldom, importing

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOKS_EVERY = timedelta(seconds=1)
INTERVALS = ("minimum_check_interval", "scheduling_resolution")
WAITS = (0.05, 0.1, 0.2, *[0.3] * 30)
"""Seconds between one try and the next: ten altogether."""
_BY_A_PERSON = (
    ("POST", re.compile(r"/flow_runs/[^/]+/resume")),
    (
        "POST",
        re.compile(r"/deployments/[^/]+/(create_flow_run|pause_deployment|resume_deployment)"),
    ),
    ("POST", re.compile(r"/(block_documents|variables|automations|deployments|flows)/")),
    ("PATCH PUT DELETE", re.compile(r"/(block_documents|variables|automations|deployments)/.+")),
)
_LOCKED = (500, 503)
"""What Prefect answers to `database is locked`; a form that it refuses is another status."""


def is_by_a_person(method: str, path: str) -> bool:
    """Whether the request is what the UI sends when somebody presses a button."""
    below = path.removeprefix("/api")
    return any(
        method in methods.split() and pattern.fullmatch(below) for methods, pattern in _BY_A_PERSON
    )


def repeating(app: App) -> App:
    """`app`, where what a person sent is tried again if it met a lock."""

    one_at_a_time = asyncio.Lock()

    async def repeats(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_by_a_person(scope["method"], scope["path"]):
            await app(scope, receive, send)
            return
        body = await _read(receive)
        for wait in (*WAITS, 0.0):
            async with one_at_a_time:
                answer = await _ask(app, scope, body)
            if answer[0].get("status") not in _LOCKED:
                break
            await asyncio.sleep(wait)
        for message in answer:
            await send(message)

    return repeats


async def _read(receive: Receive) -> bytes:
    body, is_unfinished = b"", True
    while is_unfinished:
        message = await receive()
        body += message.get("body", b"")
        is_unfinished = message.get("more_body", False)
    return body


async def _ask(app: App, scope: Message, body: bytes) -> list[Message]:
    """What `app` answers to the request, once."""
    answer: list[Message] = []
    is_read = asyncio.Event()

    async def receive() -> Message:
        if not is_read.is_set():
            is_read.set()
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Future[None]()  # nobody hangs up
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answer.append(message)

    try:
        await app(dict(scope), receive, send)
    except Exception:  # Starlette raises what it has answered, for the server's log
        if not answer:
            raise
    return answer


def look_seldom() -> None:
    """Let the services of the server that is made next look for work every `LOOKS_EVERY`."""
    from prefect.server.api import background_workers

    worker: Any = vars(background_workers).get("Worker")
    known = signature(worker).parameters if worker is not None else {}
    if {*INTERVALS} <= known.keys():  # where another Prefect has other names, it looks as it does
        seldom = dict.fromkeys(INTERVALS, LOOKS_EVERY)
        vars(background_workers)["Worker"] = partial(worker, **seldom)


def main() -> None:
    """Serve until stopped, where Prefect's settings say."""
    collect_seldom()
    with importing():
        import uvicorn
        from prefect.server.api.server import create_app
        from prefect.settings import get_current_settings

        look_seldom()
        app = create_app(final=True)
    server = get_current_settings().server
    uvicorn.run(
        repeating(app),
        host=server.api.host,
        port=server.api.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    main()
