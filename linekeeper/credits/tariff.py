"""What a connection is charged as: its tier and hosting, and who said so.

What a person says counts first, then Makini's list, then the table of providers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.credits import queries
from linekeeper.credits.decide import CreditError, LedgerEntry, Tariff, adjust, by_subject
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Connection
from linekeeper.store.types import table_of
from linekeeper.text import letters

TARIFF = Tariff()
DEFAULT_TIER = "I"
DEFAULT_TARIFFS: Mapping[str, str] = {
    "SAP S/4HANA": "III cloud",
    "SAP ECC": "III on-premises",
}
"""The two of which Makini's FAQ states the credits; others are said in the app's settings."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A tier and a hosting; None: nobody said."""

    tier: str | None = None
    hosting: str | None = None

    def __str__(self) -> str:
        return f"{self.hosting or 'cloud'} {self.tier or DEFAULT_TIER}"


def cost_of(tier: str | None, hosting: str) -> int:
    """Credits of a connection; a tier nobody said counts as I. Raises `CreditError`."""
    return TARIFF.cost(tier or DEFAULT_TIER, hosting)


def parse_charge(text: str) -> Charge:
    """`III on-premises`, `II` or `cloud`, in any order and case; raises `CreditError`."""
    tier = hosting = None
    for word in text.replace(",", " ").split():
        if (upper := word.upper()) in TARIFF.tiers:
            tier = upper
        elif (lower := word.lower()) in TARIFF.factors:
            hosting = lower
        else:
            known = ", ".join((*TARIFF.tiers, *TARIFF.factors))
            raise CreditError("tariff", f"{word[:40]!r} is not one of {known}")
    return Charge(tier, hosting)


def default_charge(provider: str, table: Mapping[str, str]) -> Charge:
    """What connections of `provider` are charged as: tier and hosting each by the app's `table`,
    or where that doesn't say it, by ours."""
    wanted, charge = letters(provider), Charge()
    for tariffs in (table, DEFAULT_TARIFFS):
        for name, text in tariffs.items():
            if wanted and letters(name) == wanted:
                said = parse_charge(text)
                charge = Charge(charge.tier or said.tier, charge.hosting or said.hosting)
    return charge


def usual_tier(system: str, table: Mapping[str, str]) -> str | None:
    """The tier of `system`, which people call `SAP ECC North`, by its product; None: unknown."""
    wanted = letters(system)
    for tariffs in (table, DEFAULT_TARIFFS):
        for name, text in sorted(tariffs.items(), key=lambda tariff: -len(tariff[0])):
            if letters(name) in wanted and (tier := parse_charge(text).tier):
                return tier
    return None


async def apply_defaults(session: AsyncSession, app: str, table: Mapping[str, str]) -> None:
    """Connections of `app` of which nobody said the tier are charged as others of their provider.

    What the table said once is taken back where it says something else by now; the hosting that a
    person said stays.
    """
    rows = await session.execute(
        select(
            col(Connection.id),
            col(Connection.provider),
            col(Connection.tariff_by),
            *(col(getattr(Connection, name)) for name in _CHARGED_AS),
        ).where(
            col(Connection.app) == app,
            or_(col(Connection.tier).is_(None), col(Connection.tariff_default).is_not(None)),
            col(Connection.tier_by).is_(None),
            col(Connection.setup) != "disconnected",
        )
    )
    usual = cache(partial(default_charge, table=table))
    changed = []
    for connection_id, provider, by, *before in rows:
        after = _charged_as(Charge(*before[:2]), before[2], by, usual(provider))
        if after != tuple(before):
            values = {f"new_{name}": value for name, value in zip(_CHARGED_AS, after, strict=True)}
            changed.append({"row_id": connection_id, **values})
    if changed:
        await (await session.connection()).execute(_CHARGE, changed)


_CHARGED_AS = ("tier", "hosting", "tariff_default")
_TABLE = table_of(Connection)
_CHARGE = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("row_id"))
    .values({name: bindparam(f"new_{name}") for name in _CHARGED_AS})
)


def _charged_as(
    said: Charge, by_table: str | None, hosting_by: str | None, usual: Charge
) -> tuple[str | None, str | None, str | None]:
    """Tier, hosting, and what of them is the table's word. Pure.

    `said` is what they are now, `by_table` what the table said, `hosting_by` who said the hosting.
    """
    tier, hosting = said.tier, said.hosting
    if by_table == str(said):
        tier, hosting = None, "cloud" if hosting_by is None else hosting
    if tier is not None or usual == Charge():
        return tier, hosting, None  # somebody else has said it since, or nobody says anything
    if usual.hosting is not None and hosting == "cloud" and hosting_by is None:
        hosting = usual.hosting
    return usual.tier, hosting, str(Charge(usual.tier, hosting))


async def estimate(session: AsyncSession, tables: Mapping[str, Mapping[str, str]]) -> int:
    """What all connections cost, each app's by its table: before anything is in the ledger, too."""
    rows = await session.execute(
        select(
            col(Connection.app),
            col(Connection.provider),
            col(Connection.tier),
            col(Connection.hosting),
            col(Connection.tariff_by),
        ).where(col(Connection.setup) != "disconnected")
    )
    total = 0
    for app, provider, tier, hosting, by in rows:
        charge = Charge(tier, hosting)
        if tier is None:
            usual = default_charge(provider, tables.get(app, {}))
            known = hosting if hosting != "cloud" or by is not None else None
            charge = Charge(usual.tier, known or usual.hosting)
        total += cost_of(charge.tier, charge.hosting or "cloud")
    return total


async def set_charge(
    store: Store,
    session: AsyncSession,
    connections: Sequence[str],
    charge: Charge,
    *,
    by: str,
    now: datetime,
) -> list[str]:
    """A person says what `connections` are charged as; the ledger books the difference.

    In the caller's transaction, which holds no row of a connection yet. Returns what changed, a
    phrase each.
    """
    await queries.lock_ledger(store, session)
    rows = await session.scalars(
        select(Connection).where(col(Connection.id).in_(connections)).with_for_update()
    )
    posted = by_subject(await queries.entries_of(session, connections))
    changed = []
    booked: dict[tuple[str, str], list[LedgerEntry]] = {}
    for row in rows.all():
        before = Charge(row.tier, row.hosting)
        if charge.tier is not None:
            row.tier, row.tier_by = charge.tier, by
        if charge.hosting is not None:
            row.hosting, row.tariff_by = charge.hosting, by
        after = Charge(row.tier, row.hosting)
        if row.tariff_default == str(before):  # what is left of the table's word stays the table's
            row.tariff_default = str(after) if row.tier_by is None else None
        if before == after:
            continue
        note = f"{before} → {after}"
        cost = cost_of(row.tier, row.hosting)
        due = adjust(posted.get(row.id, []), row.id, cost, now)
        booked.setdefault((row.app, note), []).extend(due)
        session.add(
            Audit(at=now, by=by, action="connection.tariff", subject=row.id, detail={"is": note})
        )
        changed.append(f"{row.name}: {note} ({cost} in all)")
    for (app, note), entries in booked.items():
        await queries.post(session, entries, app=app, by=by, note=note, of_connections=True)
    await session.flush()
    return changed
