"""Customers without anybody to notify, connections without a token, how the world reaches us."""

from collections.abc import Collection, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.customers.distinct_labels import SAID, labels_of
from linekeeper.customers.matching import same_customers
from linekeeper.customers.naming import label
from linekeeper.doctor.finding import DoctorFinding, ok, warn, wrong
from linekeeper.doctor.makini import LOOPBACK
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Contact, Customer, WebhookEvent
from linekeeper.text import counted, named
from linekeeper.tokens.stored import has_usable_token, unreadable_tokens


async def customers_without_contact(session: AsyncSession) -> DoctorFinding:
    """Customers whom nobody could ask to log in again."""
    names = list(
        await session.scalars(
            select(col(Customer.name))
            .outerjoin(
                Contact,
                (col(Contact.customer_id) == col(Customer.id)) & col(Contact.confirmed),
            )
            .where(col(Contact.id).is_(None))
            .order_by(Customer.name)
        )
    )
    if not names:
        return ok("contacts", "every customer has one")
    return warn(
        "contacts",
        f"{counted(len(names), 'customer')} without a confirmed contact: {named(names)}",
        "linekeeper customer import FILE.csv (columns name, contacts), "
        "or the form of the deployment import-customers; those that the adoption proposed: "
        "customer-update, Confirm proposed contacts",
    )


async def customers_named_twice(session: AsyncSession) -> list[DoctorFinding]:
    """Customers who have no system, as Makini's list may name them otherwise."""
    questions = await same_customers(session)
    if not questions:
        return []
    return [
        warn(
            "customers",
            f"{named(questions)}: the second has no system, and the first not its contacts",
            "if they are one, the form customer-update for the first, Is the same as the second",
        )
    ]


async def connections_without_token(
    session: AsyncSession, apps: Mapping[str, AppConfig], *, now: datetime
) -> list[DoctorFinding]:
    """Which connections are judged by Makini's list alone, and how to get their tokens, per app."""
    rows = await session.execute(
        select(
            col(Connection.app),
            *SAID,
        )
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(~has_usable_token(now, apps), col(Connection.setup) != "disconnected")
        .order_by(Connection.app, Customer.name)
    )
    by_app: dict[str, list[str]] = {}
    for app, *said in rows:
        by_app.setdefault(app, []).append(label(*said))
    findings = []
    for app, names in by_app.items():
        config = apps.get(app)
        fixes = {
            None: f"configure the app {app} again (MakiniApp block)",
            False: "let your product lend them (linekeeper tokens import), or set the mode to "
            "manage: the next sweep then has Makini mint them, which may end your product's own",
            True: "the table of the last sweep says why Makini gave none; "
            "linekeeper tokens import takes those of your product",
        }
        findings.append(
            warn(
                f"app {app} · tokens",
                f"{counted(len(names), 'connection')} without one, judged by Makini's list alone: "
                f"{named(names)}",
                fixes[config.manages if config is not None else None],
            )
        )
    return findings


async def unreadable_connections(store: Store, session: AsyncSession) -> list[DoctorFinding]:
    """The connections whose stored tokens none of our keys opens; nothing where there are none."""
    ids = await unreadable_tokens(store, session)
    if not ids:
        return []
    names = list((await labels_of(session, ids[:100])).values())
    return [
        wrong(
            "encryption keys",
            f"the tokens of {counted(len(ids), 'connection')} can't be decrypted: {named(names)}",
            "put the key they were written with into LINEKEEPER_ENCRYPTION_KEYS, or send their "
            "customers a connect link (`connect`)",
        )
    ]


async def webhooks_without_app(session: AsyncSession, apps: Collection[str]) -> list[DoctorFinding]:
    """Webhooks that wait for the settings of their app; `apps` are those that are configured."""
    waiting = await session.execute(
        select(col(WebhookEvent.app), func.count(), func.min(col(WebhookEvent.received_at)))
        .where(col(WebhookEvent.status) == "pending", col(WebhookEvent.app).not_in(apps))
        .group_by(col(WebhookEvent.app))
        .order_by(col(WebhookEvent.app))
    )
    return [
        warn(
            f"webhooks · app {app}",
            f"{counted(count, 'webhook')} of it {'waits' if count == 1 else 'wait'}, the oldest "
            f"since {first:%Y-%m-%d %H:%M} UTC, because no app of that name is configured: what "
            "they say of its connections is not known here",
            f"fill in the MakiniApp block {app} again; they are applied within ten minutes",
        )
        for app, count, first in waiting
    ]


def public_url(settings: Settings) -> DoctorFinding:
    """Whether Makini and customers can reach us."""
    url = settings.resolved_public_url
    parts = urlsplit(url)
    if parts.hostname in LOOPBACK or parts.hostname in ("0.0.0.0", "::"):  # noqa: S104 - compared
        return warn(
            "public url",
            f"{url} is this machine only: no webhook and no customer gets here",
            "set LINEKEEPER_PUBLIC_URL to the address the receiver has from outside",
        )
    if parts.scheme != "https":
        return warn("public url", f"{url} is not encrypted", "put TLS before it and use https://")
    return ok("public url", url)
