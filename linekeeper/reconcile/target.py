"""One connection as it is read: who it is, and its token, renewed when it dies half-way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import func, select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.customers.naming import label
from linekeeper.health.probe import may_renew
from linekeeper.health.scope import Whole, ask_whole
from linekeeper.makini import ErrorKind, ErrorScope, MakiniError, error_scope
from linekeeper.reconcile.policy import POLICY
from linekeeper.runtime import Runtime
from linekeeper.store.connection_settings import Settings, cadence_of, configured, load_settings
from linekeeper.store.tables import Connection, Customer, WebhookTrust
from linekeeper.tokens.renew import renew
from linekeeper.tokens.stored import Token, load_tokens


@dataclass(frozen=True, slots=True)
class Target:
    """A connection to read."""

    id: str
    app: AppConfig
    """Its app, with the entities and bodies that this connection was configured to."""
    ref: str
    """The listed field `app.connection_field` names."""
    makini_key: str
    label: str
    """`Customer · System`."""
    health: str
    setup: str
    cadence: timedelta
    """How long its entities may go unread, but for those with a cadence of their own."""
    lanes: Sequence[str]
    """Those its deliveries wait in until it is known whose they are."""
    settings: Settings = field(default_factory=dict)
    """What was configured for each of its entities; empty: nothing was."""

    def cadence_of(self, entity: str) -> timedelta:
        """How long `entity` may go unread."""
        return cadence_of(self.settings, entity, self.cadence)


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
                    func.coalesce(col(Customer.critical), False),
                    func.coalesce(col(WebhookTrust.state), "unknown"),
                    col(Connection.mode),
                    col(Connection.notify_customers),
                )
                .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
                .outerjoin(WebhookTrust, col(WebhookTrust.connection_id) == col(Connection.id))
                .where(col(Connection.id).in_(ids), col(Connection.app) == app.name)
            )
        ).all()
        settings = await load_settings(session, [row[0] for row in rows])
    return [
        Target(
            id=identifier,
            app=configured(app.as_chosen(*chosen), settings.get(identifier)),
            ref=(key if app.connection_field == "key" else makini_id) or key,
            makini_key=key,
            label=label(customer, provider, name),
            health=health,
            setup=setup,
            cadence=POLICY.cadence(trust, critical=bool(critical)),
            lanes=[f"{app.name}/{ref}" for ref in (identifier, key, makini_id) if ref],
            settings=settings.get(identifier, {}),
        )
        for (
            identifier, key, makini_id, name, provider, customer, health, setup, critical, trust,
            *chosen,
        ) in rows
    ]  # fmt: skip


class Login:
    """The token of one connection, for as long as it is being read."""

    def __init__(self, rt: Runtime, target: Target) -> None:
        self._rt = rt
        self._target = target
        self._makini = rt.makini(target.app)
        self._token: Token | None = None
        self._renewed = False
        """It was renewed, and nothing has been read with the new token yet."""
        self._whole: Whole | None = None
        """What the connection's status said the last time it was asked here."""

    async def token(self) -> str | None:
        """An access token, minted or refreshed where that is allowed; None where there is none.

        Raises `MakiniError` when Makini could not be asked.
        """
        if self._token is None:
            async with self._rt.store.read() as session:
                found = await load_tokens(self._rt.store, session, [self._target.id])
            self._token = found.get(self._target.id)
        if self._token is not None and not self._token.may_read(self._target.app, utcnow()):
            return None
        if self._token is None:
            return await self.renewed()
        return self._token.access

    def worked(self) -> None:
        """Something was read with the token: the connection as a whole is well."""
        self._renewed, self._whole = False, Whole.answers

    async def after_refusal(self) -> str | None:
        """Another token after a data call's 401; None where a token is not what is missing.

        A token that Makini accepts for the connection's status is good: then what was asked for
        is what is refused, and nothing is renewed. A refused one is renewed once.
        Raises `MakiniError` when Makini could not be asked.
        """
        if self._token is None:
            return None
        self._whole = await ask_whole(self._makini, self._token.access, connection=self._target.ref)
        if self._whole not in (Whole.token_refused, Whole.unclear):
            return None
        return await self.renewed()

    async def scope_of(self, error: MakiniError) -> ErrorScope:
        """What the `error` of a data call is evidence about.

        Where the error alone can't tell whether it is about its entity or about the connection,
        the connection's status does; it is asked once as long as nothing was read.
        """
        scope = error_scope(error, of_entity=True)
        if scope is not ErrorScope.entity:
            return scope
        if error.kind is ErrorKind.unauthorized:
            whole = self.is_lost or self._whole is Whole.silent
            return ErrorScope.connection if whole else ErrorScope.entity
        if error.kind not in (ErrorKind.unavailable, ErrorKind.timeout, ErrorKind.network):
            return scope
        if self._whole is None and self._token is not None:
            self._whole = await ask_whole(
                self._makini, self._token.access, connection=self._target.ref
            )
        whole = self._whole in (Whole.silent, Whole.token_refused)
        return ErrorScope.connection if whole else ErrorScope.entity

    @property
    def is_lost(self) -> bool:
        """Whether the last refusal was of the login itself, and nothing of ours fixed it."""
        return self._whole in (Whole.token_refused, Whole.login_lost)

    @property
    def is_replaced_perhaps(self) -> bool:
        """Whether nothing but a token was refused that nothing here may renew: it may be old."""
        is_token = self._whole is Whole.token_refused
        return is_token and not may_renew(self._target.app, self._token)

    async def renewed(self) -> str | None:
        """Another token in place of the one that was refused; None if nothing of ours gives one.

        Whoever asks, it is renewed once, and again only after something was read with the new
        token: minting may end the product's. Raises `MakiniError` when Makini could not be asked.
        """
        if self._renewed:
            return None
        self._renewed = True
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
