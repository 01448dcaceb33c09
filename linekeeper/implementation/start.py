"""Starting an implementation: everything is checked before anything is stored.

The same customer and the same systems are the same implementation, whoever starts it again.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from slugify import slugify
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.credits.decide import CreditError, Override
from linekeeper.credits.queries import lock_ledger
from linekeeper.credits.service import Reservation, fit, set_aside
from linekeeper.customers.matching import read_customer_names
from linekeeper.implementation import news, queries
from linekeeper.implementation.advance import advance_in
from linekeeper.implementation.order import Form, ImplementationOrder, check, costs_of, fold, words
from linekeeper.implementation.progress import Progress, forecast_anew
from linekeeper.implementation.run import start_message
from linekeeper.implementation.scope import PlanError
from linekeeper.implementation.standing import Standing
from linekeeper.store import Store
from linekeeper.store.tables import (
    Audit,
    Customer,
    Gate,
    Implementation,
    ImplementationSystem,
)


@dataclass(frozen=True, slots=True)
class Started:
    """The implementation, and whether this start made it."""

    progress: Progress
    new: bool
    credits: str
    """What it costs, and whether it fits; an estimate."""


async def start(store: Store, form: Form, *, run_id: str | None = None, now: datetime) -> Started:
    """Start the implementation of `form`, or move on the one there is.

    `run_id` is the run that will show a new one; without it, another run is started for that.
    Raises `PlanError` with field and reason; then nothing was stored.
    """
    async with store.read() as session:
        known = await _customer(session, form.customer)
        existing = known and await _existing(session, _key(known.id, form.systems))
    if existing is not None:
        return await _move_on(store, existing.id, now)
    try:
        order = await asyncio.to_thread(check, form, known, now=now)
    except PlanError as fault:
        raise PlanError(
            *fault.faults[0], *fault.faults[1:], *await _also_short(store, form)
        ) from None
    async with store.write() as session:
        await lock_ledger(store, session)
        customer = await _customer(session, order.customer) or await _new_customer(
            session, order, now
        )
        raced = await _existing(session, _key(customer.id, order.scope.system_names))
        if raced is None:
            verdict = await fit(session, order.costs, order.override, app=order.app)
            if not verdict.allowed:
                raise PlanError("credits", verdict.message)
            standing = await _make(session, order, customer, credits=verdict.message, now=now)
            implementation = standing.implementation
            implementation.run_id, implementation.run_at = run_id, None if run_id is None else now
            messages = [news.say(standing, "start", words(order))]
            if run_id is None:
                messages.append(start_message(standing))
            await news.send(store, session, messages, now=now)
            evaluation, lacks = await advance_in(store, session, standing, now=now)
    if raced is not None:
        return await _move_on(store, raced.id, now)
    progress = await forecast_anew(store, standing, evaluation, lacks, now=now)
    return Started(progress, True, verdict.message)


async def _also_short(store: Store, form: Form) -> list[tuple[str, str]]:
    """What a start that is refused anyway would lack in credits, as far as that is known."""
    override = Override(form.by, form.over_credits_because) if form.over_credits_because else None
    try:
        costs = costs_of(form)
        async with store.read() as session:
            verdict = await fit(session, costs, override, app=form.app)
    except (PlanError, CreditError):
        return []
    return [] if verdict.allowed else [("credits", verdict.message.rstrip("."))]


async def _make(
    session: AsyncSession,
    order: ImplementationOrder,
    customer: Customer,
    *,
    credits: str,
    now: datetime,
) -> Standing:
    scope, outlook = order.scope, order.outlook
    names = scope.system_names
    shown = ", ".join(names) if len(names) <= 2 else f"{len(names)} systems"
    implementation = Implementation(
        key=_key(customer.id, names),
        slug=await _free_slug(session, f"{customer.name} {shown}"),
        customer_id=customer.id,
        title=f"{customer.name} · {shown}",
        app=order.app,
        complexity=scope.complexity,
        hosting=scope.hosting,
        custom_workflows=scope.custom_workflows,
        kickoff=scope.kickoff,
        committed=scope.committed,
        country=scope.country,
        owner=order.owner,
        template=order.template.model_dump(mode="json"),
        started_at=now,
        started_by=order.by,
        planned_p50=outlook.p50,
        planned_p80=outlook.p80,
        p50=outlook.p50,
        p80=outlook.p80,
        chance=outlook.forecast.chance,
        commitment=outlook.commitment,
        forecast_at=now,
    )
    session.add(implementation)
    await session.flush()
    systems = [
        ImplementationSystem(
            implementation_id=implementation.id,
            number=number,
            name=name,
            tier=tier,
            cost=cost,
            target=target,
            vpn=vpn,
            hosting=scope.hosting_of(number) if scope.hostings else None,
        )
        for number, (name, tier, cost, target, vpn) in enumerate(
            zip(names, order.tiers, order.costs, order.targets, order.vpns, strict=True), start=1
        )
    ]
    gates = [
        Gate(
            implementation_id=implementation.id,
            gate=gate.id,
            title=gate.title,
            check_name=gate.check,
            owner=gate.owner,
            assignee=order.owner,
        )
        for gate in outlook.plan.gates
    ]
    session.add_all([*systems, *gates])
    session.add(
        Audit(
            at=now,
            by=order.by,
            action="implementation.start",
            subject=implementation.title,
            detail={
                "implementation": implementation.id,
                "credits": credits,
                "over_credits_because": order.override.reason if order.override else None,
            },
        )
    )
    await session.flush()
    await set_aside(
        session,
        [Reservation(system.id, system.cost) for system in systems],
        app=implementation.app,
        implementation_id=implementation.id,
        by=order.by,
        note=credits if order.override else "",
        now=now,
    )
    made = await queries.load(session, implementation.id)
    assert made is not None  # it was written a moment ago
    return made


async def _move_on(store: Store, identifier: str, now: datetime) -> Started:
    async with store.write() as session:
        standing = await queries.load(session, identifier, lock=True)
        assert standing is not None  # implementations are never removed
        evaluation, lacks = await advance_in(store, session, standing, now=now)
    progress = await forecast_anew(store, standing, evaluation, lacks, now=now)
    return Started(progress, False, "Its credits were reserved when it was started.")


async def _customer(session: AsyncSession, name: str) -> Customer | None:
    """The customer of that name; case, spaces and punctuation don't matter."""
    owner = (await read_customer_names(session)).owner(name)
    return None if owner is None else await session.get(Customer, owner)


async def _new_customer(
    session: AsyncSession, order: ImplementationOrder, now: datetime
) -> Customer:
    taken = set(await session.scalars(select(col(Customer.slug))))
    customer = Customer(
        name=order.customer,
        slug=_unused(order.customer, taken),
        owner=order.owner,
        created_at=now,
    )
    session.add(customer)
    await session.flush()
    return customer


async def _existing(session: AsyncSession, key: str) -> Implementation | None:
    return await session.scalar(select(Implementation).where(col(Implementation.key) == key))


async def _free_slug(session: AsyncSession, text: str) -> str:
    return _unused(text, set(await session.scalars(select(col(Implementation.slug)))))


def _unused(text: str, taken: set[str]) -> str:
    base = slugify(text, max_length=60) or "implementation"
    number, slug = 1, base
    while slug in taken:
        number += 1
        slug = f"{base}-{number}"
    return slug


def _key(customer_id: str, systems: Sequence[str]) -> str:
    names = "\n".join(sorted(map(fold, systems)))
    return f"{customer_id}:{hashlib.sha256(names.encode()).hexdigest()[:32]}"
