"""Forgetting a customer: people, mails and names go, the numbers stay.

Names are replaced by a pseudonym wherever they stand in text of ours; contacts go; bodies of
webhooks and records, which are the customer's own, are emptied. Nothing of it can be undone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slugify import slugify
from sqlalchemy import and_, delete, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel, col

from linekeeper.access.listing import forget_listings
from linekeeper.customers.find import NotFound
from linekeeper.customers.naming import label as label_of
from linekeeper.implementation.news import implementation_key
from linekeeper.implementation.report import handover_key
from linekeeper.outbox.mail_order import mails_to
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.lists import count_rows, update_many
from linekeeper.store.modes import deciding, load_rules, load_subjects
from linekeeper.store.tables import (
    Audit,
    Connection,
    Contact,
    Customer,
    CustomerLink,
    Implementation,
    ModeRule,
    NoticeMessage,
    Outbox,
    Record,
    WebhookEvent,
)
from linekeeper.store.types import table_of
from linekeeper.views.parts import artifact_key

_IDS_AT_ONCE = 500
_EVENT, _RECORD = table_of(WebhookEvent), table_of(Record)
_PROSE: dict[str, tuple[str, ...]] = {
    "api_key": ("name", "created_by"),
    "audit": ("by", "subject", "detail"),
    "authentication_setup": ("started_by", "confirmed_by"),
    "connect_link": ("system", "created_by"),
    "connection": ("tariff_by", "tier_by", "judged"),
    "credit_entry": ("subject", "note", "by"),
    "customer_link": ("created_by",),
    "deletion": ("decided_by",),
    "forward_attempt": ("error",),
    "gate": (
        *("title", "evidence", "note", "assignee", "skipped_because"),
        *("done_by", "blocks", "refusal"),
    ),
    "implementation": (
        *("title", "key", "slug", "held_because", "owner", "started_by"),
        *("template", "digest", "notified", "notified_of_before", "actual"),
    ),
    "implementation_system": ("name", "target"),
    "incident": ("title", "summary", "message", "detail", "acknowledged_by"),
    "incident_entry": ("text",),
    "mode_rule": ("subject", "label", "by"),  # a tag, which is replaced in `connection` likewise
    "notice": ("why",),
    "notice_channel": ("trouble",),
    "observation": ("message",),
    "outbox": ("payload", "error"),
    "pending_login": ("by",),
    "preflight_report": ("target", "verdicts", "source", "by"),
    "rejected_delivery": ("path", "headers"),
    "run_alert": ("subject", "run_name", "state_message"),
    "silence": ("label", "reason", "by"),
    "transition": ("evidence",),
    "watermark": ("error", "sync_error"),
    "webhook_event": ("error",),
    "workflow_configuration": ("configured_by",),
}
"""The columns with text that people write or read; no status, key or other word that is read back.

A test fills every other text column too, so that a new one has to be put here, or be named there
as one that can't hold a name.
"""
_READ_BACK = {"do", "kind", "status", "channel", "op", "type", "template", "step"}


@dataclass(frozen=True, slots=True)
class Erased:
    """What went, or would."""

    label: str
    """What the customer is called from now on."""
    contacts: int
    connections: int
    texts: int
    """Rows in which a name was replaced."""
    bodies: int
    """Deliveries and records whose contents were removed."""
    live: int
    """Connections that Makini still lists: what it calls them comes back with its list."""


class Eraser:
    """Replaces `names`, longest first and as whole words, by `pseudonym`. Pure.

    A name of somebody else that contains one of them stays as it is, and a slug becomes a slug.
    """

    def __init__(self, names: Sequence[str], others: Sequence[str], pseudonym: str) -> None:
        wanted = {name.casefold() for name in names if name.strip()}
        longer = [other for other in others if any(name in other.casefold() for name in wanted)]
        kept = [name for name in longer if name.casefold() not in wanted]
        self.names = sorted({name for name in names if name.strip()}, key=len, reverse=True)
        alternatives = [*sorted(kept, key=len, reverse=True), *self.names]
        # Two letters may be a word, such as *it*: they go only as they are written.
        each = [f"(?{'-i' * (len(name) <= 2)}:{re.escape(name)})" for name in alternatives]
        words = "|".join(each) or r"(?!)"
        self._pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
        self._kept = {name.casefold() for name in kept}
        self._pseudonym = pseudonym

    def text(self, value: str) -> str:
        """`value` without the names."""
        return self._pattern.sub(self._replaced, value)

    def value(self, value: Any) -> Any:
        """JSON without the names; words that are read back stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(entry) for entry in value]
        if isinstance(value, dict):
            return {
                key: entry if key in _READ_BACK else self.value(entry)
                for key, entry in value.items()
            }
        return value

    def _replaced(self, matched: re.Match[str]) -> str:
        if matched[0].casefold() in self._kept:
            return matched[0]
        hyphenated = "-" in matched[0] + matched.string[matched.end() :][:1]
        is_slug = hyphenated and matched[0] == slugify(matched[0])
        return slugify(self._pseudonym) if is_slug else self._pseudonym


async def erase_customer(
    store: Store, name: str, *, by: str, now: datetime, dry_run: bool = False
) -> Erased:
    """Forget the customer called exactly `name`. Raises `NotFound`.

    One transaction: all of it, or nothing. What waits to be mailed to its people is not sent.
    """
    async with store.write() as session:
        customer = await session.scalar(select(Customer).where(col(Customer.name) == name.strip()))
        if customer is None:
            raise NotFound(f"no customer is called exactly {name.strip()!r}")
        connections = list(
            await session.scalars(
                select(Connection).where(col(Connection.customer_id) == customer.id)
            )
        )
        contacts = list(
            await session.scalars(select(Contact).where(col(Contact.customer_id) == customer.id))
        )
        of_others = select(col(Customer.name)).where(col(Customer.id) != customer.id)
        others = await session.scalars(of_others)
        label = f"Erased customer {customer.id[-8:]}"
        eraser = Eraser(_names(customer, connections, contacts), list(others), label)
        if dry_run:
            bodies = await _bodies(session, connections, now, erase=False)
        else:
            await _keep_from_sending(session, customer.id, now)
            bodies = await _bodies(session, connections, now, erase=True)
            for table in (Contact, CustomerLink):
                await session.execute(delete(table).where(col(table.customer_id) == customer.id))
            await forget_listings(session)
            await _keep_modes(session, eraser, by=by, now=now)
            await _forget_pages(session, customer, connections)
            _rename(customer, connections, label)
            await session.flush()
        texts = await _texts(session, eraser, erase=not dry_run)
        if not dry_run:
            detail = {"connections": len(connections), "contacts": len(contacts)}
            session.add(
                Audit(at=now, by=by, action="customer.erased", subject=customer.id, detail=detail)
            )
        live = sum(connection.setup != "disconnected" for connection in connections)
        return Erased(label, len(contacts), len(connections), texts, bodies, live)


def _names(
    customer: Customer, connections: Sequence[Connection], contacts: Sequence[Contact]
) -> list[str]:
    """Everything that says who it is."""
    names = [customer.name, customer.slug, *customer.aliases]
    for contact in contacts:
        names += [contact.email, contact.name]
    for connection in connections:
        names += [connection.name, connection.email, connection.slug]
        if connection.told_apart_by is not None:  # as it was called, without its customer
            said = (connection.provider, connection.name, connection.told_apart_by)
            names.append(label_of(None, *said))
    return [name for name in dict.fromkeys(names) if len(name) > 2 or not name.islower()]


def _rename(customer: Customer, connections: Sequence[Connection], label: str) -> None:
    customer.name, customer.slug = label, slugify(label)
    customer.aliases, customer.owner = [], None
    for connection in connections:
        connection.name = f"{label} {connection.id[-8:]}"
        connection.slug = slugify(connection.name)
        connection.email, connection.tags, connection.told_apart_by = "", [], None
        connection.inherited_tags = None


async def _keep_modes(session: AsyncSession, eraser: Eraser, *, by: str, now: datetime) -> None:
    """What a rule for a tag decided, whose name goes, becomes a rule of each connection.

    Makini's list brings the tag back, and would find no rule for it: an observed connection of a
    managed app would be managed.
    """
    rules = await load_rules(session)
    going = {
        rule.subject
        for rule in rules
        if rule.scope == "tag" and eraser.text(rule.subject) != rule.subject
    }
    if not going:
        return
    own = {
        row.subject: row
        for row in await session.scalars(
            select(ModeRule).where(col(ModeRule.scope) == "connection")
        )
    }
    for identifier, (subject, _) in (await load_subjects(session)).items():
        mode, notify = (
            rule if rule is not None and rule.scope == "tag" and rule.subject in going else None
            for rule in deciding(rules, subject)
        )
        if mode is None and notify is None:
            continue
        row = own.get(identifier)
        if row is None:
            label = f"connection {identifier[-8:]}"
            row = ModeRule(scope="connection", subject=identifier, label=label, by=by, at=now)
            session.add(row)
        if mode is not None:
            row.mode = mode.mode
        if notify is not None:
            row.notify_customers = notify.notify_customers
    await session.flush()


async def _forget_pages(
    session: AsyncSession, customer: Customer, connections: Sequence[Connection]
) -> None:
    """That the pages were written that are called by the customer, and by nobody else."""
    theirs = await session.scalars(
        select(col(Implementation.slug)).where(col(Implementation.customer_id) == customer.id)
    )
    named = {artifact_key(each.slug) for each in connections}
    named |= {f"match-records-{each.slug}" for each in connections}
    for slug in theirs:
        named |= {implementation_key(slug), handover_key(slug)}
    for batch in chunked(sorted(named), _IDS_AT_ONCE):
        await session.execute(delete(NoticeMessage).where(col(NoticeMessage.subject).in_(batch)))


async def _keep_from_sending(session: AsyncSession, customer_id: str, now: datetime) -> None:
    await session.execute(
        update_many(Outbox)
        .where(mails_to(customer_id), col(Outbox.status) == "pending")
        .values(status="skipped", settled_at=now, error="the customer was erased")
    )


async def _bodies(
    session: AsyncSession, connections: Sequence[Connection], now: datetime, *, erase: bool
) -> int:
    """Empty what the customer's systems said; returns of how many deliveries and records.

    A delivery that waits is settled without being applied: the next poll reads what it announced.
    """
    count = 0
    for batch in chunked(connections, _IDS_AT_ONCE):
        ids = [connection.id for connection in batch]
        refs = [ref for each in batch for ref in (each.id, each.makini_key, each.makini_id) if ref]
        named = or_(_EVENT.c.connection_ref.in_(refs), _EVENT.c.url_connection.in_(refs))
        unowned = [
            # The status is written into the statement: only so are the partial indexes used.
            and_(
                _EVENT.c.status == literal_column(f"'{status}'"),
                _EVENT.c.connection_id.is_(None),
                named,
            )
            for status in ("pending", "dead", "unrouted")
        ]
        for which in (_EVENT.c.connection_id.in_(ids), *unowned):
            held = [which, or_(_EVENT.c.body.is_not(None), _EVENT.c.headers.is_not(None))]
            count += await count_rows(session, _EVENT, *held)
            if erase:
                empty = {"body": None, "headers": None, "body_keys": None}
                await session.execute(update(_EVENT).where(*held).values(empty))
                await _settle_pending(session, which, now)  # last: `which` may say that it waits
        held = [
            _RECORD.c.connection_id.in_(ids),
            or_(_RECORD.c.body.is_not(None), _RECORD.c.number.is_not(None)),
        ]
        count += await count_rows(session, _RECORD, *held)
        if erase:
            empty = {"body": None, "number": None}
            await session.execute(update(_RECORD).where(*held).values(empty))
    return count


async def _settle_pending(session: AsyncSession, which: Any, now: datetime) -> None:
    settled = {"status": "stale", "processed_at": now, "merge_key": None}
    settled |= {"claimed_by": None, "claim_owner": None, "error": "the customer was erased"}
    pending = _EVENT.c.status == literal_column("'pending'")
    await session.execute(update(_EVENT).where(which, pending).values(settled))


async def _texts(session: AsyncSession, eraser: Eraser, *, erase: bool) -> int:
    """Replace the names wherever people read them; how many rows had one."""
    changed = 0
    for name, texts in _PROSE.items():
        table = SQLModel.metadata.tables[name]
        columns = [table.c[text] for text in texts]
        keys = list(table.primary_key.columns)
        has_text = or_(*(column.is_not(None) for column in columns))  # few events have an error
        for row in (await session.execute(select(*keys, *columns).where(has_text))).all():
            values = {
                column.key: new
                for column, old in zip(columns, row[len(keys) :], strict=True)
                if old is not None and (new := eraser.value(old)) != old
            }
            if not values:
                continue
            changed += 1
            if erase:
                same = [key == value for key, value in zip(keys, row[: len(keys)], strict=True)]
                await session.execute(update(table).where(*same).values(values))
    return changed
