"""Setting the mode of some connections, and clearing it: what would happen is counted first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.mode_preview import ModePreview, preview
from linekeeper.config.app import Mode
from linekeeper.customers.find import NotFound, find_connection, find_customer
from linekeeper.outbox.events import request_reconnects
from linekeeper.outbox.queue import enqueue
from linekeeper.refusal import Refusal
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.leases import holding
from linekeeper.store.modes import Chosen, ModeSubject, Rule, apply_rules, load_rules, reasons
from linekeeper.store.tables import Audit, Connection, ModeRule

LEASE_SECONDS = 60


class BadRule(Refusal):
    """The message says what to give instead."""


class ModeNotConfirmed(BadRule):
    """The phrase is missing or another one; what it would come to may have changed meanwhile."""


class StillRenewed(BadRule):
    """Linekeeper renews tokens of connections that would be observed."""


@dataclass(frozen=True, slots=True)
class WantedMode:
    """What is to hold for `subjects`; None: that is left as it is."""

    subjects: Sequence[Rule]
    """Rules that say nothing yet, as `find_subjects` returns them."""
    mode: str | None = None
    notify_customers: bool | None = None
    clears: bool = False
    """Take the rules for `subjects` away."""

    def after(self, rules: Sequence[Rule]) -> list[Rule]:
        """The rules that would be in force. Pure."""
        named = {(each.scope, each.subject): each for each in self.subjects}
        kept = [rule for rule in rules if (rule.scope, rule.subject) not in named]
        if self.clears:
            return kept
        held = {(rule.scope, rule.subject): rule for rule in rules}
        return [*kept, *(self._merged(each, held.get(key)) for key, each in named.items())]

    def phrase(self, named: int) -> str:
        """What to type where a person has to confirm it, such as `manage 10`. Pure.

        It has the number of the connections named, so that who confirms has seen how many.
        """
        if self.clears:
            return f"clear {named}"
        writes = {None: [], True: ["notify"], False: ["do not notify"]}[self.notify_customers]
        return " ".join([*([self.mode] if self.mode else []), *writes, str(named)])

    def _merged(self, subject: Rule, held: Rule | None) -> Rule:
        base = held or subject
        return replace(
            base,
            label=subject.label,
            mode=base.mode if self.mode is None else self.mode,
            notify_customers=base.notify_customers
            if self.notify_customers is None
            else self.notify_customers,
        )


async def find_subjects(
    rt: Runtime,
    *,
    apps: Sequence[str] = (),
    tags: Sequence[str] = (),
    customers: Sequence[str] = (),
    connections: Sequence[str] = (),
) -> list[Rule]:
    """What people name, as the subjects of rules. Raises `BadRule`, or `NotFound`."""
    configured = (await rt.configuration()).apps
    rules: list[Rule] = []
    async with rt.store.read() as session:
        for app in apps:
            if app not in configured:
                known = ", ".join(sorted(configured)) or "none is configured"
                raise BadRule("names", f"there is no Makini app {app!r} (known: {known})")
            rules.append(Rule("app", app, label=f"app {app}"))
        if tags:
            rows = await session.scalars(select(col(Connection.tags)))
            known_tags = {tag for row in rows for tag in row or ()}
            for tag in tags:
                if tag not in known_tags:
                    offered = ", ".join(sorted(known_tags)[:10]) or "none has any"
                    raise BadRule("names", f"no connection has the tag {tag!r} (known: {offered})")
                rules.append(Rule("tag", tag, label=f"tag {tag}"))
        for name in customers:
            customer = await find_customer(session, name)
            rules.append(Rule("customer", customer.id, label=f"customer {customer.name}"))
        for name in connections:
            named = await find_connection(session, name)
            if named.setup == "disconnected":
                raise NotFound(f"{named.label} was disconnected")
            rules.append(Rule("connection", named.id, label=named.label))
    if not rules:
        raise BadRule("names", "say for what: a connection, a customer, a tag or an app")
    return rules


def named_by(subjects: Sequence[Rule], connection: Connection) -> bool:
    """Whether one of `subjects` is about `connection`. Pure."""
    known = subject_of(connection)
    return any(known.names(rule) for rule in subjects)


def subject_of(connection: Connection) -> ModeSubject:
    """A connection, as rules see it. Pure."""
    tags = tuple(connection.tags or ())
    return ModeSubject(connection.app, tags, connection.customer_id, connection.id)


async def preview_change(rt: Runtime, wanted: WantedMode, *, now: datetime) -> ModePreview:
    """What `change` would do now; nothing is written."""
    async with rt.store.read() as session:
        rules = await load_rules(session)
        return await preview(rt, session, rules, wanted.after(rules), wanted.subjects, now=now)


async def change(
    rt: Runtime,
    wanted: WantedMode,
    *,
    by: str,
    now: datetime,
    stop_renewing: bool = False,
    confirm: str | None = None,
) -> ModePreview:
    """Put the rules in force; whoever decides next goes by them. Returns what it comes to.

    Raises `StillRenewed` where Linekeeper renews tokens of connections that would be observed,
    unless `stop_renewing`: after it nobody would, and the product would stand still. Raises
    `ModeNotConfirmed` where `confirm` is given and isn't the phrase for what it comes to now.
    """
    me = f"{rt.owner}:{new_id()}"  # one after the other: each goes by the rules of the one before
    async with (
        holding(rt.store, "modes", me, seconds=LEASE_SECONDS, wait=True),
        rt.store.write() as session,
    ):
        rules = await load_rules(session)
        after = wanted.after(rules)
        seen = await preview(rt, session, rules, after, wanted.subjects, now=now)
        phrase = wanted.phrase(seen.named)
        if confirm is not None and " ".join(confirm.split()).casefold() != phrase:
            raise ModeNotConfirmed(
                "confirm", f"{confirm!r} is not {phrase!r}, which is what it comes to now"
            )
        if seen.left and not stop_renewing:
            raise StillRenewed("stop_renewing", seen.why_not)
        await _write(session, wanted, after, by=by, now=now)
        await apply_rules(session)
        held = {(rule.scope, rule.subject): rule for rule in rules}
        for subject in wanted.subjects:
            key = (subject.scope, subject.subject)
            new = next((rule for rule in after if (rule.scope, rule.subject) == key), None)
            session.add(_audit(subject, held.get(key), new, by=by, now=now))
        await session.flush()
        await enqueue(rt.store, session, request_reconnects(seen.cases), now=now)
    return seen


async def _write(
    session: AsyncSession, wanted: WantedMode, after: Sequence[Rule], *, by: str, now: datetime
) -> None:
    named = {(each.scope, each.subject) for each in wanted.subjects}
    for scope, subject in sorted(named):
        await session.execute(
            delete(ModeRule).where(col(ModeRule.scope) == scope, col(ModeRule.subject) == subject)
        )
    for rule in after:
        if (rule.scope, rule.subject) not in named:
            continue
        session.add(
            ModeRule(
                id=new_id(),
                scope=rule.scope,
                subject=rule.subject,
                label=rule.label,
                mode=rule.mode,
                notify_customers=rule.notify_customers,
                by=by,
                at=now,
            )
        )
    await session.flush()


def _audit(
    subject: Rule, before: Rule | None, after: Rule | None, *, by: str, now: datetime
) -> Audit:
    def said(rule: Rule | None) -> dict[str, Any] | None:
        if rule is None:
            return None
        return {"mode": rule.mode, "notify_customers": rule.notify_customers}

    detail = {"scope": subject.scope, "before": said(before), "after": said(after)}
    action = "mode.set" if after is not None else "mode.cleared"
    return Audit(at=now, by=by, action=action, subject=subject.subject, detail=detail)


@dataclass(frozen=True, slots=True)
class ModeStanding:
    """Which mode holds for a connection, and why."""

    label: str
    mode: Mode
    notify_customers: bool
    mode_by: str
    """`the app`, or the rule's subject and who set it."""
    notify_by: str


async def standing_of(rt: Runtime, wanted: str) -> ModeStanding:
    """Which mode holds for the connection called `wanted`. Raises `NotFound`, `UnknownApp`."""
    async with rt.store.read() as session:
        named = await find_connection(session, wanted)
        connection = await session.get_one(Connection, named.id)
        rules = await load_rules(session)
    app = await rt.app(connection.app)
    chosen = Chosen(connection.mode, connection.notify_customers)
    by_mode, by_notify = reasons(rules, subject_of(connection), chosen, app.name)
    held = app.as_chosen(connection.mode, connection.notify_customers)
    return ModeStanding(
        named.label,
        held.mode,
        held.notify_customers,
        by_mode,
        by_notify,
    )
