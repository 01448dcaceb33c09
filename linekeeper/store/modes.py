"""Which mode holds for a connection: its app's, unless a rule says otherwise.

A rule is for an app, a tag, a customer or one connection, and the most specific counts, for the
mode and for `notify_customers` each. What the rules come to is kept in the columns
`connection.mode` and `connection.notify_customers`, which is what everybody reads.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from sqlalchemy import ColumnElement, and_, bindparam, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.store.engine import chunked
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Connection, ModeRule

Scope = Literal["app", "tag", "customer", "connection"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""The least specific first."""
_AT_ONCE = 5_000
_IS_CHOSEN = or_(col(Connection.mode).is_not(None), col(Connection.notify_customers).is_not(None))


@dataclass(frozen=True, slots=True)
class Rule:
    """What somebody decided; None: it leaves that to a less specific rule, or to the app."""

    scope: Scope
    subject: str
    mode: str | None = None
    notify_customers: bool | None = None
    label: str = ""
    by: str = ""

    @property
    def reason(self) -> str:
        """The rule, as an answer to why."""
        return f"the rule for {self.label}" + (f", set by {self.by}" if self.by else "")


@dataclass(frozen=True, slots=True)
class ModeSubject:
    """A connection, as far as rules go; an empty `id` is one that doesn't exist yet."""

    app: str
    tags: Sequence[str] = ()
    customer_id: str | None = None
    id: str = ""

    def names(self, rule: Rule) -> bool:
        """Whether `rule` is about it. Pure."""
        if rule.scope == "tag":
            return rule.subject in self.tags
        own = {"app": self.app, "customer": self.customer_id, "connection": self.id}
        return rule.subject == own[rule.scope]


class Chosen(NamedTuple):
    """What the rules come to; None: they say nothing, and the app's own setting holds."""

    mode: str | None = None
    notify_customers: bool | None = None


UNSAID = Chosen()
"""No rule says anything: the app's settings hold."""


def decide(rules: Iterable[Rule], subject: ModeSubject) -> Chosen:
    """What `rules` come to for `subject`. Pure.

    The most specific rule counts. Of two tags that disagree the cautious one does: `observe`, and
    nobody is notified.
    """
    by_mode, by_notify = deciding(rules, subject)
    return Chosen(
        by_mode.mode if by_mode else None, by_notify.notify_customers if by_notify else None
    )


def deciding(rules: Iterable[Rule], subject: ModeSubject) -> tuple[Rule | None, Rule | None]:
    """The rule that decides on the mode, and the one that decides on notifying customers. Pure."""
    about = [rule for rule in rules if subject.names(rule)]
    modes = [rule for rule in about if rule.mode is not None]
    notifies = [rule for rule in about if rule.notify_customers is not None]
    return (
        max(modes, key=lambda rule: (_rank(rule), rule.mode == "observe"), default=None),
        max(notifies, key=lambda rule: (_rank(rule), not rule.notify_customers), default=None),
    )


def reasons(rules: Iterable[Rule], subject: ModeSubject, held: Chosen, app: str) -> tuple[str, str]:
    """By what it has its mode, and by what its customer is notified, or is not. Pure.

    `held` is what its columns have: what may have come in the place of a connection is as cautious
    as that one, whatever the rules say (`customers.successors`).
    """
    rules = list(rules)
    ruled = decide(rules, subject)

    def reason(rule: Rule | None, *, is_ruled: bool) -> str:
        if not is_ruled:
            return "the rule for a connection whose place it may have taken"
        return rule.reason if rule is not None else f"the settings of app {app}"

    by_mode, by_notify = deciding(rules, subject)
    return (
        reason(by_mode, is_ruled=held.mode == ruled.mode),
        reason(by_notify, is_ruled=held.notify_customers == ruled.notify_customers),
    )


def _rank(rule: Rule) -> int:
    return SCOPES.index(rule.scope)


_RULES = (
    select(ModeRule)
    .where(col(ModeRule.scope).in_(SCOPES))
    .order_by(col(ModeRule.scope), col(ModeRule.label), col(ModeRule.id))
)


async def load_rules(session: AsyncSession) -> list[Rule]:
    """Every rule that is in force."""
    return [_rule(row) for row in await session.scalars(_RULES)]


def _rule(row: ModeRule) -> Rule:
    scope = next(scope for scope in SCOPES if scope == row.scope)
    return Rule(scope, row.subject, row.mode, row.notify_customers, row.label, row.by)


async def load_subjects(
    session: AsyncSession, ids: Sequence[str] | None = None
) -> dict[str, tuple[ModeSubject, Chosen]]:
    """The connections `ids` (None: all) as rules see them, with what is in their columns."""
    statement = select(
        col(Connection.id),
        col(Connection.app),
        col(Connection.tags),
        col(Connection.customer_id),
        col(Connection.mode),
        col(Connection.notify_customers),
    )
    chosen_of: dict[str, tuple[ModeSubject, Chosen]] = {}
    portions = [None] if ids is None else chunked(ids, _AT_ONCE)
    for portion in portions:
        rows = await session.execute(
            statement if portion is None else statement.where(col(Connection.id).in_(portion))
        )
        for identifier, app, tags, customer_id, mode, notify in rows:
            subject = ModeSubject(app, tuple(tags or ()), customer_id, identifier)
            chosen_of[identifier] = (subject, Chosen(mode, notify))
    return chosen_of


async def apply_rules(session: AsyncSession, ids: Sequence[str] | None = None) -> None:
    """Bring the columns of the connections `ids` (None: all) in line with the rules.

    For whoever changes a rule, or what a connection is known by, in the same transaction.
    """
    rules = await load_rules(session)
    if not rules:
        if ids is None:  # else: whoever took the last rule away has emptied them
            await session.execute(
                update_many(Connection).where(_IS_CHOSEN).values(**UNSAID._asdict())
            )
        return
    different: defaultdict[Chosen, list[str]] = defaultdict(list)
    for identifier, (subject, kept) in (await load_subjects(session, ids)).items():
        if (wanted := decide(rules, subject)) != kept:
            different[wanted].append(identifier)
    for chosen, connection_ids in different.items():
        for portion in chunked(sorted(connection_ids), _AT_ONCE):
            await session.execute(
                update_many(Connection)
                .where(col(Connection.id).in_(portion))
                .values(**chosen._asdict())
            )


_CHOSEN = select(col(Connection.id), col(Connection.mode), col(Connection.notify_customers)).where(
    col(Connection.id).in_(bindparam("ids", expanding=True)), _IS_CHOSEN
)


async def load_chosen(session: AsyncSession, ids: Iterable[str]) -> dict[str, Chosen]:
    """What the rules say of those of the connections `ids` of which they say anything."""
    chosen_of: dict[str, Chosen] = {}
    for batch in chunked(list(ids), _AT_ONCE):
        rows = await session.execute(_CHOSEN, {"ids": batch})
        chosen_of |= {row[0]: Chosen(row[1], row[2]) for row in rows}
    return chosen_of


async def count_ruled(session: AsyncSession) -> dict[tuple[str, str], int]:
    """How many connections have a mode by a rule, by app and mode."""
    rows = await session.execute(
        select(col(Connection.app), col(Connection.mode), func.count())
        .where(col(Connection.mode).is_not(None), col(Connection.setup) != "disconnected")
        .group_by(col(Connection.app), col(Connection.mode))
    )
    return {(app, str(mode)): number for app, mode, number in rows}


def modes_otherwise(ruled: Mapping[tuple[str, str], int], app: str, mode: str | None) -> str:
    """How many connections of `app` are in another mode than `mode`, in words. Pure."""
    words = {"observe": "observed", "manage": "managed"}
    apps = [
        f"{number:,} {words.get(other, other)}"
        for (name, other), number in sorted(ruled.items())
        if name == app and other != mode
    ]
    return ", ".join(apps)


def app_of(app: AppConfig, chosen: Connection | Chosen | None) -> AppConfig:
    """`app` as it holds for a connection. Pure."""
    if chosen is None:
        return app
    return app.as_chosen(chosen.mode, chosen.notify_customers)


def is_written_to(apps: Mapping[str, AppConfig], app: str, chosen: Connection | Chosen) -> bool:
    """Whether a customer is written to about a connection of `app`: not of one that is not among
    `apps`, whose links lead nowhere. Pure."""
    return app in apps and app_of(apps[app], chosen).writes_to_customers


async def is_customer_written_to(
    session: AsyncSession, apps: Mapping[str, AppConfig], customer_id: str
) -> bool:
    """Whether a customer is written to about one of its connections in `apps`; where it has none,
    about the next one."""
    held = select(
        col(Connection.app), col(Connection.mode), col(Connection.notify_customers)
    ).where(col(Connection.customer_id) == customer_id, col(Connection.setup) != "disconnected")
    rows = await session.execute(held.distinct())
    chosen = [(app, Chosen(mode, notifies)) for app, mode, notifies in rows]
    if not chosen:
        rules = await load_rules(session)
        chosen = [(app, decide(rules, ModeSubject(app, customer_id=customer_id))) for app in apps]
    return any(is_written_to(apps, app, each) for app, each in chosen)


def is_managed(app: AppConfig) -> ColumnElement[bool]:
    """Whether something may be changed for a connection of `app`, as SQL."""
    return is_managed_by(app.manages)


def is_managed_by(app_manages: bool) -> ColumnElement[bool]:
    """The same for an app that changes things, or doesn't, where no rule says otherwise."""
    by_rule = col(Connection.mode) == "manage"
    return or_(by_rule, col(Connection.mode).is_(None)) if app_manages else by_rule


def is_managed_in(apps: Mapping[str, AppConfig]) -> ColumnElement[bool]:
    """The same for connections of any of `apps`, as SQL."""
    managed = [name for name, app in apps.items() if app.manages]
    by_app = col(Connection.app).in_(managed) if managed else literal(False)
    return or_(
        col(Connection.mode) == "manage",
        and_(col(Connection.mode).is_(None), by_app),
    )


async def app_for(
    session: AsyncSession, app: AppConfig, *, connection_id: str | None, customer_id: str | None
) -> AppConfig:
    """`app` as it holds for a connection, or for the next one of a customer where there is none."""
    chosen = await chosen_for(
        session, app.name, connection_id=connection_id, customer_id=customer_id
    )
    return app_of(app, chosen)


async def chosen_for(
    session: AsyncSession, app: str, *, connection_id: str | None, customer_id: str | None
) -> Chosen:
    """What the rules say of a connection, or of the next one of a customer where there is none."""
    if connection_id is not None:
        return (await load_chosen(session, [connection_id])).get(connection_id, UNSAID)
    return decide(await load_rules(session), ModeSubject(app, customer_id=customer_id))


async def hand_over_rule(session: AsyncSession, scope: Scope, before: str, after: str) -> None:
    """The rule for `before` is the one for `after` from now on, unless that has one of its own.

    Of two customers' rules that disagree the cautious one counts, as of two tags'.
    """
    rows = await session.scalars(
        select(ModeRule).where(
            col(ModeRule.scope) == scope, col(ModeRule.subject).in_((before, after))
        )
    )
    rules = {row.subject: row for row in rows}
    old, own = rules.get(before), rules.get(after)
    if old is None:
        return
    if own is None:
        old.subject = after
    else:
        if scope == "customer" and old.mode == "observe":
            own.mode = old.mode
        if scope == "customer" and old.notify_customers is False:
            own.notify_customers = False
        await session.delete(old)
    await session.flush()
