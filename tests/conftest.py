"""Real peers for every test: SQLite and PostgreSQL stores; a folder of its own for each."""

import gc
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.databases import Engine, Postgres, drop_sqlite, make_sqlite
from tests.ending import end_at_once
from tests.forked_workers import fork_workers, sendable
from tests.longest import longest_first
from tests.on_postgresql import Replay, Statements
from tests.places import quick_folder
from tests.repetitions import collect_what_runs, has_none, is_run_on_both, leave_to_soak
from tests.sharing import (
    name_connections,
    share_compiled_statements,
    share_default_storage,
    share_flows,
    share_how_settings_are_read,
    share_trust,
)
from tests.simulation import begun
from tests.together import migrate_it, shared_postgres, template_of

pytest_plugins = ["tests.fixtures_prefect"]
hypothesis.settings.register_profile("short", deadline=None, max_examples=25)
hypothesis.settings.register_profile("long", deadline=None, max_examples=500)  # make soak
hypothesis.settings.load_profile("short")  # neither has a deadline: tests assert no times

# A developer's own settings don't reach the tests, nor do proxies: all peers are on this machine.
for name in list(os.environ):
    if name.startswith("LINEKEEPER_") or name.lower().endswith("_proxy"):
        del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[object]) -> None:
    """Where several workers are about to import all tests, one process does so for all of them.

    What is imported keeps the error output that it finds: that has to be a worker's own.
    """
    begun.begin(config)
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        fork_workers(len(specs), config.args, config.option.markexpr)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A module of which nothing will run is not imported."""
    is_module = collection_path.match("test_*.py")
    return True if is_module and has_none(collection_path, config.option.markexpr) else None


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """See `tests.repetitions`."""
    collect_what_runs(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays: nothing there is garbage to be looked for."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Side by side, tests of the running house share one, and so do those of a Prefect server.

    Of those there are two, one for the flows but the sweep's, so that they take as long as each
    other: a single one would be what all wait for at the end.
    What takes longest by itself is not left to one worker at the end either (`tests.longest`).
    """
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("house"))
        elif "prefect_server" in getattr(item, "fixturenames", ()):
            is_flow = "flows" in item.path.parts and not item.path.match("test_sweep*")
            which = "flows" if is_flow else "prefect"
            item.add_marker(pytest.mark.xdist_group(which))
    leave_to_soak(items)
    yield
    if "PYTEST_XDIST_WORKER" in os.environ:
        longest_first(items)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[Any]:
    """A report of a lone surrogate, as bodies of webhooks have, can be sent by a worker: otherwise
    the whole run ends, with an internal error that names no cause."""
    return sendable((yield))


@pytest.hookimpl(trylast=True)  # once pytest has written it
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Call what failed by its own name: `--last-failed` would not find `…@group` again, and what
    `.ci/run` does not find it does not repeat."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        begun.end()
    cache = getattr(session.config, "cache", None)
    if cache is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    failed = cache.get("cache/lastfailed", {})
    cache.set("cache/lastfailed", {_GROUP.sub("", name): True for name in failed})


_GROUP = re.compile(r"@(house|flows|prefect)$")
"""pytest-xdist's name of the group at the end of a test's."""
_STEPPED_BACK: list[bool] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Side by side, what all wait for at the end goes first: tests of a group, one at a time.

    The groups begin at once; a worker that has none, or is through with it, steps back.
    """
    is_side_by_side = "PYTEST_XDIST_WORKER" in os.environ
    if is_side_by_side and not _STEPPED_BACK and item.get_closest_marker("xdist_group") is None:
        _STEPPED_BACK.append(True)
        os.nice(5)


def pytest_collection_finish() -> None:
    """Modules live as long as the process: no collection of garbage looks at them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def shared() -> Iterator[None]:
    """See `tests.sharing` and `tests.ending`."""
    with pytest.MonkeyPatch.context() as patch:
        end_at_once(patch)
        share_compiled_statements(patch)
        share_trust(patch)
        name_connections(patch)
        share_flows(patch)
        share_default_storage(patch)
        share_how_settings_are_read(patch)
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL 18, started once for all workers; no root and no Docker needed."""
    with shared_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres(postgres_url: str) -> Postgres:
    """Its databases."""
    return Postgres(postgres_url)


@pytest.fixture(scope="session")
def replay(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """See `tests.on_postgresql`."""
    with Replay.open(postgres, tmp_path_factory.mktemp("replay")) as opened:
        yield opened


@pytest.fixture(scope="session", autouse=True)
def statements(request: pytest.FixtureRequest) -> Iterator[Statements]:
    """What the tests run on SQLite, noted."""
    with pytest.MonkeyPatch.context() as patch:
        _STATEMENTS.listen(patch)
        _OF_SESSION.append(request)
        yield _STATEMENTS
        _OF_SESSION.clear()


_STATEMENTS = Statements()
_OF_SESSION: list[pytest.FixtureRequest] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Where a test went well, PostgreSQL runs what it was the first to say on SQLite."""
    yield
    noted = _STATEMENTS.take()
    if noted and not is_run_on_both(item):
        _OF_SESSION[0].getfixturevalue("replay").run(noted)


@pytest.fixture(params=["sqlite", "postgresql"], scope="session")
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    if request.param == "sqlite":
        return Engine("sqlite", make_sqlite, drop_sqlite)
    postgres: Postgres = request.getfixturevalue("postgres")
    return Engine("postgresql", postgres.make, postgres.drop)


@pytest.fixture(scope="session")
def templates() -> dict[str, Settings]:
    """The databases to copy from: each is made once, however often the engines alternate."""
    return {}


@pytest.fixture(scope="session")
async def migrated(engine: Engine, templates: dict[str, Settings]) -> Settings:
    """A migrated database to copy from; in this run one worker makes it."""
    if engine.name not in templates:
        templates[engine.name] = await template_of(engine, "migrated", migrate_it)
    return templates[engine.name]


@pytest.fixture
def settings_home(tmp_path: Path) -> Iterator[Path]:
    """Where there will be a home: in memory, or in the test's own folder."""
    if (place := quick_folder()) is None:
        yield tmp_path / "home"
        return
    with tempfile.TemporaryDirectory(prefix="linekeeper-home-", dir=place) as folder:
        yield Path(folder) / "home"


@pytest.fixture
async def empty_settings(engine: Engine, settings_home: Path) -> AsyncIterator[Settings]:
    """Settings of a home with an empty database, on each engine."""
    settings = await engine.make(settings_home)
    yield settings
    await engine.drop(settings)


@pytest.fixture
async def settings(
    engine: Engine, migrated: Settings, settings_home: Path
) -> AsyncIterator[Settings]:
    """Settings of a home with a migrated database, on each engine."""
    settings = await engine.make(settings_home, template=migrated)
    yield settings
    await engine.drop(settings)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A migrated store, on each engine."""
    async with Store.open(settings) as opened:
        yield opened
