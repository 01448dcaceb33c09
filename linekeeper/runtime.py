"""What every part needs at hand: settings, store, configuration, Makini clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from linekeeper.budget import DatabaseBudget
from linekeeper.config import AppConfig
from linekeeper.garbage import collect_seldom
from linekeeper.groups import to_end
from linekeeper.makini import MakiniClient, client_in_mode
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import SharedConfiguration
from linekeeper.store.processes import new_owner, registered
from linekeeper.store.schema import check_key, require_current
from linekeeper.store.usable import require_there


class UnknownApp(Exception):
    """No Makini app of that name is configured."""


class Runtime:
    """One process's hold on the database and on Makini. Use as `async with Runtime.open() as rt`.

    Opening raises `KeyProblem` or `StoreError` with what to fix.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.owner = new_owner()
        """Who we are in leases and claims."""
        self.budget = DatabaseBudget(store)
        self.login_budget = DatabaseBudget(store, logins=True)
        self._clients: dict[tuple[str, bool], tuple[AppConfig, MakiniClient]] = {}
        self._replaced: list[MakiniClient] = []
        """Clients of apps whose settings were changed meanwhile."""
        self.configuration = SharedConfiguration(store, settings).read
        """What operators set, a few seconds old at most."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings | None = None, *, kind: str = "command"
    ) -> AsyncIterator[Self]:
        """Open the store of `settings` (default: the environment) and close everything after.

        `kind` is what `rotate-keys` calls this process, should it encrypt with an older key.
        """
        settings = settings or Settings()
        collect_seldom()
        require_there(settings)
        async with Store.open(settings) as store:
            await require_current(store)
            runtime = cls(settings, store)
            async with registered(store, runtime.owner, kind):
                await check_key(store)  # a rotation that had ended before is seen by one of the two
                try:
                    yield runtime
                finally:
                    await runtime._close()

    async def count_calls(self) -> None:
        """Write down the calls not counted yet; they are figures, and nothing depends on them.

        Who makes further calls writes them on the way. Who makes none for hours has them here.
        """
        for budget in (self.budget, self.login_budget):
            with suppress(SQLAlchemyError, OSError):
                await budget.flush()

    async def _close(self) -> None:
        """Close what calls Makini, once nothing calls it that must be stored."""

        clients = [client for _, client in self._clients.values()] + self._replaced
        await to_end(
            self.store.owned.finish, *(client.aclose for client in clients), self.count_calls
        )

    async def app(self, name: str) -> AppConfig:
        """The app called `name`. Raises `UnknownApp`."""
        apps = (await self.configuration()).apps
        if name not in apps:
            known = ", ".join(sorted(apps)) or "none is configured"
            raise UnknownApp(f"there is no Makini app {name!r} (known: {known})")
        return apps[name]

    def makini(self, app: AppConfig, *, for_login: bool = False) -> MakiniClient:
        """The client for `app`, shared by all who call it in this process.

        What a customer's login calls (`for_login`) is counted apart from all other calls.
        """
        known = self._clients.get((app.name, for_login))
        if known is not None and known[0].is_called_like(app):
            return client_in_mode(known[1], app)
        if known is not None:
            self._replaced.append(known[1])  # it may be in use still, and is closed at the end
        client = MakiniClient(app, budget=self.login_budget if for_login else self.budget)
        self._clients[app.name, for_login] = (app, client)
        return client
