"""What a process of Linekeeper has once, and the tests, one process, would make again and again."""

import asyncio
import gc
import os
import ssl
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic_settings import EnvSettingsSource
from pydantic_settings.sources import PydanticBaseEnvSettingsSource


def share_compiled_statements(patch: pytest.MonkeyPatch) -> None:
    """All stores of this process have one cache of compiled statements.

    One test after the other opens stores of its own, where in production a process has one: what
    a statement costs to compile was a good part of the time that the tests took.
    """
    from linekeeper.store import engine as module

    make = module.create_async_engine
    shared: dict[type, Any] = {}

    def make_engine(*args: Any, **options: Any) -> Any:
        engine = make(*args, **options)
        sync = engine.sync_engine
        kind = type(sync.dialect)
        if kind not in shared:
            # The cache asks whether two dialects are the same; ours have the same options.
            patch.setattr(kind, "__eq__", lambda self, other: type(self) is type(other))
            patch.setattr(kind, "__hash__", lambda self: hash(type(self)))
            shared[kind] = sync._compiled_cache
            shared[kind].capacity = 5_000
        sync._compiled_cache = shared[kind]
        return engine

    patch.setattr(module, "create_async_engine", make_engine)


def share_trust(patch: pytest.MonkeyPatch) -> None:
    """All clients trust the same certificates, which are read once from each place."""
    make = httpx.create_ssl_context
    shared: dict[tuple[str | None, ...], ssl.SSLContext] = {}

    def context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is not True or cert is not None or not trust_env:
            return make(verify=verify, cert=cert, trust_env=trust_env)
        place = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        if place not in shared:
            shared[place] = make()
        return shared[place]

    patch.setattr(httpx, "create_ssl_context", context)
    patch.setattr("httpx._transports.default.create_ssl_context", context)
    prefect: Any = sys.modules.get("prefect.client.orchestration")
    if prefect is not None:  # its clients, of which a flow makes a dozen, read theirs themselves
        made = {**vars(ssl), "create_default_context": lru_cache(ssl.create_default_context)}
        patch.setattr(prefect, "ssl", SimpleNamespace(**made))


def name_connections(patch: pytest.MonkeyPatch) -> None:
    """What the garbage collector finds open says which test opened it, and which task: it is
    another test that fails."""
    from linekeeper.store.sqlite import SqliteConnection

    make = SqliteConnection.__init__

    def opened(connection: SqliteConnection, *args: Any) -> None:
        make(connection, *args)
        test = os.environ.get("PYTEST_CURRENT_TEST", "no test")
        vars(connection)["opened_in"] = f"{test} by {asyncio.current_task()!r}"

    def shown(connection: SqliteConnection) -> str:
        return f"<a connection to SQLite, opened in {vars(connection).get('opened_in')}>"

    patch.setattr(SqliteConnection, "__init__", opened)
    patch.setattr(SqliteConnection, "__repr__", shown, raising=False)


def share_default_storage(patch: pytest.MonkeyPatch) -> None:
    """Each server is asked once where results go that name no place: each run asks it thrice."""
    results: Any = sys.modules.get("prefect.results")
    if results is None:
        return
    from prefect.settings import PREFECT_API_URL

    ask, ask_soon = (
        results._read_server_default_result_storage_block_id,
        results._aread_server_default_result_storage_block_id,
    )
    shared: dict[object, Any] = {}

    def default() -> Any:
        server = PREFECT_API_URL.value()
        if server not in shared:
            shared[server] = ask()
            with warnings.catch_warnings():  # Prefect leaves its client open
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
        return shared[server]

    async def default_soon() -> Any:
        server = PREFECT_API_URL.value()
        if server not in shared:
            shared[server] = await ask_soon()
        return shared[server]

    patch.setattr(results, ask.__name__, default)
    patch.setattr(results, ask_soon.__name__, default_soon)


def share_how_settings_are_read(patch: pytest.MonkeyPatch) -> None:
    """What the environment may say of a field is found out once: pydantic looks at each anew for
    each object of settings, of which a flow makes Prefect's, with all that is in them."""

    def once(of: type, name: str) -> None:
        look = getattr(of, name)
        shared: dict[tuple[object, ...], Any] = {}

        def looked(source: Any, field: Any, *more: Any) -> Any:
            # The field itself is kept, so that no other is ever at its place in memory.
            key = (id(field), source.env_prefix, source.case_sensitive, *map(str, more))
            if key not in shared:
                shared[key] = look(source, field, *more), field
            return shared[key][0]

        patch.setattr(of, name, looked)

    once(PydanticBaseEnvSettingsSource, "_extract_field_info")
    once(EnvSettingsSource, "_field_is_complex")


def share_flows(patch: pytest.MonkeyPatch) -> None:
    """A flow's file is run once, however often it is deployed; one that changed is run again."""
    project: Any = sys.modules.get("tasks.prefect_adapter.project")
    if project is None:  # no test of this process deploys
        return
    from prefect.client.base import determine_server_type

    load = project.load_flow_from_entrypoint
    shared: dict[tuple[object, ...], Any] = {}

    def loaded(entrypoint: str, **how: Any) -> Any:
        file = Path(entrypoint.rpartition(":")[0])
        key = (entrypoint, file.stat().st_mtime_ns, determine_server_type())
        if key not in shared:
            shared[key] = load(entrypoint, **how)
        return shared[key]

    patch.setattr(project, "load_flow_from_entrypoint", loaded)
