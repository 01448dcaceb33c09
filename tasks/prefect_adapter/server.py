"""Which Prefect server is ours, and how the one `linekeeper up` starts is set."""

import json
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from linekeeper.config.base import require_web_address
from linekeeper.private import make_private_file, make_private_folder
from linekeeper.refusal import UserError
from linekeeper.settings import Settings

QUEUES = {"urgent": (1, None), "routine": (2, None), "bulk": (3, 1)}
"""Queue → its priority (1 first) and how many of its runs go at once."""
VANTAGE = (4, 1)
"""The same for the queue of a worker's vantage."""
EVENT_DAYS = 7
PASSING_EVENT_HOURS = 2
PASSING_EVENTS = (
    "prefect.flow-run.heartbeat",
    "prefect.flow-run.Pending",
    "prefect.flow-run.Submitting",
    "prefect.flow-run.Running",
    "prefect.flow-run.pull-step.executed",
    "prefect.task-run.Pending",
    "prefect.task-run.Running",
    "prefect.worker.submitted-flow-run",
    "prefect.worker.executed-flow-run",
)
"""What every run leaves in the Event Feed on its way, three quarters of all events; how runs ended
and what became of connections stays for `EVENT_DAYS`. Runs keep all their states."""
RUN_DAYS = 30
PAGE_BYTES = 8_192
"""The page size of the database of the server that `up` starts. An entry of Prefect's index of
events is a little over what SQLite bears on a page of 4 KiB: each would take a second page, a
fifth of the database."""
_DAY = 86_400

UI_API, _UI_API_BEFORE = "PREFECT_SERVER_UI_API_URL", "PREFECT_UI_API_URL"
"""Where the browser finds the API, under its present name and the one before."""

SERVER_ENVIRONMENT: Mapping[str, str] = {
    # Prefect's vacuum removes events by default, runs (with their logs and artifacts) only if set.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RUN_DAYS * _DAY),
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{EVENT_DAYS}D",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": json.dumps(
        dict.fromkeys(PASSING_EVENTS, PASSING_EVENT_HOURS * 3_600)
    ),
    # How long a statement waits for SQLite's lock before the server answers 503 (default 10).
    "PREFECT_SERVER_DATABASE_TIMEOUT": "30",
    # A run whose process is gone is found after three missed heartbeats (default: one in 180 s).
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    # The UI asks the API at the address it was itself opened by: a tunnel, a proxy, another host.
    UI_API: "/api",
}


def work_pool() -> str:
    """The work pool all runs go through, as the environment names it."""
    return Settings().work_pool


def own_api_url(settings: Settings) -> str:
    """The API of the server `linekeeper up` starts with `settings`."""
    host = f"[{settings.prefect_host}]" if ":" in settings.prefect_host else settings.prefect_host
    return f"http://{host}:{settings.prefect_port}/api"


def server_environment(settings: Settings) -> dict[str, str]:
    """What `prefect server start` needs in its environment.

    Its home is ours alone, and made here with an empty database: Prefect makes no parents, a page's
    size can't be changed later, and a copy is there sooner than what Prefect would make. How it
    keeps and waits may be set otherwise in our own environment.
    """
    home = settings.home.resolve() / "prefect"
    make_private_folder(home)
    make_database(home / "prefect.db", prefect_template())
    kept = {name: os.environ.get(name, value) for name, value in SERVER_ENVIRONMENT.items()}
    kept[UI_API] = os.environ.get(UI_API) or os.environ.get(_UI_API_BEFORE) or kept[UI_API]
    return kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_HOST": settings.prefect_host,
        "PREFECT_SERVER_API_PORT": str(settings.prefect_port),
        "PREFECT_API_URL": own_api_url(settings),
    }


def prefect_template() -> Path:
    """Where `make install` keeps an empty database of the Prefect that is installed.

    Prefect makes one by more than a hundred migrations, which take as long as the rest of a start.
    """
    return Path(sys.prefix) / "share" / "linekeeper" / f"prefect-{version('prefect')}.db"


def make_database(path: Path, template: Path | None = None) -> None:
    """Make the SQLite file `path`, unless it is there: a copy of `template` if that is there."""
    if path.exists():
        return
    if template is not None and template.is_file():
        made = path.with_suffix(".new")
        make_private_file(made)
        made.write_bytes(template.read_bytes())
        made.replace(path)
        return
    make_private_file(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        database.execute("VACUUM")


def require_prefect_address(url: str) -> None:
    """Raise `UserError` where `url`, which PREFECT_API_URL says, is no address of a web server."""
    try:
        require_web_address(url)
    except ValueError as error:
        raise UserError(f"PREFECT_API_URL: {error}, such as http://127.0.0.1:4200/api") from None


@contextmanager
def prefect_at(settings: Settings, *, retries: int | None = None) -> Iterator[str]:
    """Prefect's clients talk to the right server inside the block; yields its API's URL.

    That is `PREFECT_API_URL` (environment or Prefect profile) if set, else the server `up` starts;
    never one that Prefect starts by itself. `retries` replaces how often Prefect's client repeats
    a call that was refused.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        temporary_settings,
    )

    url = PREFECT_API_URL.value() or own_api_url(settings)
    updates = {PREFECT_API_URL: url, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}
    if retries is not None:
        updates[PREFECT_CLIENT_MAX_RETRIES] = retries
    with temporary_settings(updates):
        yield url
