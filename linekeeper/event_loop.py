"""The event loop of a service that always runs."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

if sys.platform == "win32":  # uvloop isn't made for it
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on the fastest event loop there is."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)
