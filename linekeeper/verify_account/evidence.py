"""What our own database can say of the account: tokens to read with, webhooks, logins."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import String, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.exact import read
from linekeeper.inbox.meaning import CANARY
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.bodies import open_payload
from linekeeper.store.lists import count_rows
from linekeeper.store.tables import Audit, Connection, ConnectLink, DeliveryCount, WebhookEvent
from linekeeper.tokens.stored import load_tokens
from linekeeper.verify_account.ask import Asker
from linekeeper.verify_account.recording import Exchange
from linekeeper.verify_account.steps import Sample

SAMPLES = 3
NAMES_KEPT = 50
BODIES_PER_NAME = 2


async def samples_of(rt: Runtime, app: str, *, now: datetime) -> list[Sample]:
    """Up to three connections with a token that lives, of different systems where there are."""
    async with rt.store.read() as session:
        rows = list(
            await session.scalars(
                select(Connection)
                .where(col(Connection.app) == app, col(Connection.setup) != "disconnected")
                .order_by(col(Connection.id))
            )
        )
        tokens = await load_tokens(rt.store, session, [row.id for row in rows])
    living = [row for row in rows if row.id in tokens and not tokens[row.id].is_over(now)]
    first_of: dict[str, Connection] = {}
    for row in living:
        first_of.setdefault(row.provider, row)
    others = [row for row in living if row not in first_of.values()]
    chosen = [*first_of.values(), *others][:SAMPLES]
    return [
        Sample(f"connection {number}", tokens[row.id].access)
        for number, row in enumerate(chosen, start=1)
    ]


async def sample_named(
    rt: Runtime, app: AppConfig, key: str, *, now: datetime
) -> tuple[str, Sample, str] | None:
    """Our id of the connection with Makini's key `key`, the connection, and its `{id}` in routes.

    None without a token that lives.
    """
    async with rt.store.read() as session:
        row = await session.scalar(
            select(Connection).where(
                col(Connection.app) == app.name, col(Connection.makini_key) == key
            )
        )
        if row is None:
            return None
        token = (await load_tokens(rt.store, session, [row.id])).get(row.id)
    if token is None or token.is_over(now):
        return None
    sample = Sample("the named connection", token.access)
    return row.id, sample, app.ref_of(row.makini_key, row.makini_id)


async def webhook_exchanges(
    rt: Runtime, app: str, ask: Asker, known: Sequence[Exchange], *, now: datetime
) -> list[Exchange]:
    """The webhooks that came since the last run, by name; and how many were accepted."""
    seen = {exchange.note for exchange in known if exchange.method == "WEBHOOK"}
    async with rt.store.read() as session:
        names = await session.scalars(
            select(col(WebhookEvent.event))
            .where(
                col(WebhookEvent.app) == app,
                col(WebhookEvent.event).is_not(None),
                col(WebhookEvent.kind) != CANARY,
            )
            .group_by(col(WebhookEvent.event))
            .order_by(col(WebhookEvent.event))
            .limit(NAMES_KEPT)
        )
        exchanges = []
        for name in [str(name)[:60] for name in names]:
            if name not in seen:
                exchanges += await _samples_of_event(rt.store, session, app, name, ask)
        accepted = await count_rows(
            session,
            WebhookEvent,
            col(WebhookEvent.app) == app,
            col(WebhookEvent.source) == "webhook",
            col(WebhookEvent.kind) != CANARY,
        )
        refused = await session.scalar(
            select(func.sum(col(DeliveryCount.count))).where(
                col(DeliveryCount.app) == app,
                col(DeliveryCount.cause).in_(["bad_signature", "malformed_signature"]),
            )
        )
    figures = {"accepted": accepted, "refused": int(refused or 0)}
    if any(figures.values()):
        exchanges.append(_own("signatures", figures, now))
    return exchanges


async def login_exchange(rt: Runtime, app: str, *, now: datetime) -> list[Exchange]:
    """How many logins of known connections kept them, and how many connections one replaced.

    Nothing where there was none. A login of which Makini did not say whose it was (`login.assumed`)
    shows neither.
    """
    assumed = select(col(Audit.subject)).where(col(Audit.action) == "login.assumed")
    async with rt.store.read() as session:
        kept = await count_rows(
            session,
            ConnectLink,
            col(ConnectLink.app) == app,
            col(ConnectLink.used_for) == col(ConnectLink.connection_id),
            cast(col(ConnectLink.connection_id), String).not_in(assumed),
        )
        is_replaced = col(Connection.app) == app, col(Connection.replaced_by).is_not(None)
        replaced = await count_rows(session, Connection, *is_replaced)
    figures = {"kept": kept, "replaced": replaced}
    return [_own("logins", figures, now)] if any(figures.values()) else []


async def _samples_of_event(
    store: Store, session: AsyncSession, app: str, name: str, ask: Asker
) -> list[Exchange]:
    rows = await session.execute(
        select(col(WebhookEvent.body), col(WebhookEvent.received_at))
        .where(
            col(WebhookEvent.app) == app,
            col(WebhookEvent.event) == name,
            col(WebhookEvent.body).is_not(None),
        )
        .order_by(col(WebhookEvent.id).desc())
        .limit(BODIES_PER_NAME)
    )
    return [
        ask.webhook("webhooks", read(open_payload(store.cipher, body) or b""), name, at)
        for body, at in rows
    ]


def _own(step: str, figures: dict[str, int], now: datetime) -> Exchange:
    stamp = now.isoformat(timespec="seconds")
    return Exchange(step, "linekeeper", "COUNT", "", {}, 0, {}, figures, stamp)
