"""One connection as it is read: who it is, and its token, renewed when it dies half-way."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlmodel import col

from linekeeper.access.renew import renew
from linekeeper.access.tokens import Token, load_tokens
from linekeeper.config import AppConfig
from linekeeper.customers.naming import label
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Customer


@dataclass(frozen=True, slots=True)
class Target:
    """A connection to read."""

    id: str
    app: AppConfig
    ref: str
    """The listed field `app.connection_field` names."""
    makini_key: str
    label: str
    """`Customer · System`."""
    health: str
    setup: str
    lanes: Sequence[str]
    """Those its deliveries wait in until it is known whose they are."""


async def load_targets(rt: Runtime, app: AppConfig, ids: Sequence[str]) -> list[Target]:
    """Those of `ids` that belong to `app`, in no order."""
    async with rt.store.read() as session:
        rows = (
            await session.execute(
                select(
                    col(Connection.id),
                    col(Connection.makini_key),
                    col(Connection.makini_id),
                    col(Connection.name),
                    col(Connection.provider),
                    col(Customer.name),
                    col(Connection.health),
                    col(Connection.setup),
                )
                .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
                .where(col(Connection.id).in_(ids), col(Connection.app) == app.name)
            )
        ).all()
    return [
        Target(
            id=identifier,
            app=app,
            ref=(key if app.connection_field == "key" else makini_id) or key,
            makini_key=key,
            label=label(customer, provider, name),
            health=health,
            setup=setup,
            lanes=[f"{app.name}/{ref}" for ref in (identifier, key, makini_id) if ref],
        )
        for identifier, key, makini_id, name, provider, customer, health, setup in rows
    ]


class Login:
    """The token of one connection, for as long as it is being read."""

    def __init__(self, rt: Runtime, target: Target) -> None:
        self._rt = rt
        self._target = target
        self._makini = rt.makini(target.app)
        self._token: Token | None = None

    async def token(self) -> str | None:
        """An access token, minted or refreshed where that is allowed; None where there is none.

        Raises `MakiniError` when Makini could not be asked.
        """
        if self._token is None:
            async with self._rt.store.read() as session:
                found = await load_tokens(self._rt.store, session, [self._target.id])
            self._token = found.get(self._target.id)
        if self._token is None:
            return await self.renewed()
        return self._token.access

    async def renewed(self) -> str | None:
        """Another token in place of the one that was refused; None if nothing of ours gives one.

        Raises `MakiniError` when Makini could not be asked.
        """
        token = await renew(
            self._rt.store,
            self._makini,
            self._target.app,
            connection_id=self._target.id,
            makini_ref=self._target.ref,
            refused=self._token,
            owner=self._rt.owner,
        )
        if token is None:
            return None
        self._token = token
        return token.access
