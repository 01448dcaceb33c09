"""How many connections are managed and how many observed, by what holds for each of them.

An app's mode says it of those that no rule is about. Figures and sentences here go by connection.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.store.modes import UNSAID, Chosen, app_of, load_rules
from linekeeper.store.tables import Connection

_RULES_NAMED = 3


@dataclass(frozen=True, slots=True)
class Managed:
    """The connections of an app that weren't disconnected."""

    connections: int = 0
    managed: int = 0
    written_to: int = 0
    """The number of connections whose customers are notified."""
    by_rules: int = 0
    """The number of connections whose mode a rule says."""

    def __add__(self, other: "Managed") -> "Managed":
        return Managed(
            self.connections + other.connections,
            self.managed + other.managed,
            self.written_to + other.written_to,
            self.by_rules + other.by_rules,
        )

    @property
    def observed(self) -> int:
        """Those of which nothing is changed."""
        return self.connections - self.managed


async def count_managed(session: AsyncSession, apps: Mapping[str, AppConfig]) -> dict[str, Managed]:
    """The figures of each app; of one that isn't among `apps` nothing is managed but by a rule."""
    kinds = (col(Connection.app), col(Connection.mode), col(Connection.notify_customers))
    rows = await session.execute(
        select(*kinds, func.count()).where(col(Connection.setup) != "disconnected").group_by(*kinds)
    )
    managed: dict[str, Managed] = {}
    for name, mode, notify, number in rows:
        chosen = UNSAID if mode is None and notify is None else Chosen(mode, notify)
        app = app_of(apps.get(name) or AppConfig(name=name), chosen)
        part = Managed(
            number,
            number if app.manages else 0,
            number if app.writes_to_customers else 0,
            number if mode is not None else 0,
        )
        managed[name] = managed.get(name, Managed()) + part
    return managed


async def name_rules(session: AsyncSession) -> list[str]:
    """What there are rules for, as people call it."""
    return [rule.label for rule in await load_rules(session) if rule.mode is not None]


def managed_sentence(apps: Iterable[Managed], rules: Iterable[str] = ()) -> str:
    """`10 of 600 managed (rules: tag pilot), 590 observed; customers of 3 are notified`. Pure.

    Empty where there is no connection.
    """
    total = sum(apps, Managed())
    if not total.connections:
        return ""
    named = list(rules) if total.by_rules else []
    and_more = f" and {len(named) - _RULES_NAMED} more" if len(named) > _RULES_NAMED else ""
    by = f" (rules: {', '.join(named[:_RULES_NAMED])}{and_more})" if named else ""
    if total.managed == total.connections:
        said = f"all {total.connections:,} managed{by}"
    elif not total.managed:
        said = f"0 of {total.connections:,} managed{by}, all observed"
    else:
        said = (
            f"{total.managed:,} of {total.connections:,} managed{by}, {total.observed:,} observed"
        )
    if not total.written_to:
        return f"{said}; no customer is notified"
    return f"{said}; customers of {total.written_to:,} are notified"
