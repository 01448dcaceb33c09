"""A process that starts and resumes runs, and is killed once Prefect was told, before it is noted.

`python -m tests.consumer.dying DATABASE_URL PREFECT_PORT HOME`: delivers the rows of channel `run`
as the consumer does and dies by SIGKILL right before the commit that settles the first of them.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from linekeeper.settings import Settings
from linekeeper.store import Store
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.delivering import deliver_runs


async def main(url: str, port: str, home: str) -> None:
    settings = Settings(home=Path(home), database_url=url, prefect_port=int(port), _env_file=None)
    async with Store.open(settings) as store, PrefectOrchestrator.open(settings) as orchestrator:
        engine = store.engine.sync_engine
        settles = False

        @event.listens_for(engine, "before_cursor_execute")
        def executing(_c: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
            nonlocal settles
            settles = settles or (statement.startswith("UPDATE outbox") and "sent" in values)

        @event.listens_for(engine, "commit")
        def committing(_connection: Any) -> None:
            if settles:
                os.kill(os.getpid(), signal.SIGKILL)

        await deliver_runs(store, orchestrator, "the one that dies")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
