"""What the operator's form asks for, checked before anything is stored."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from linekeeper.clock import zone_of
from linekeeper.credits.decide import CreditError, Override
from linekeeper.credits.tariff import DEFAULT_TIER, cost_of, usual_tier
from linekeeper.implementation.outlook import Outlook, forecast_plan
from linekeeper.implementation.plan import make_plan
from linekeeper.implementation.scope import (
    MAX_NAME,
    FormErrors,
    PlanError,
    Scope,
    parse_country,
    parse_scope,
)
from linekeeper.implementation.standing import calendar_of
from linekeeper.implementation.template import Template, load_template
from linekeeper.people import person
from linekeeper.preflight.targets import TargetError, parse_target
from linekeeper.store.tables import Customer
from linekeeper.text import counted

TEMPLATES = "LINEKEEPER_TEMPLATES"
"""A directory of one's own gate templates."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the operator filled in. Nothing of it is trusted."""

    customer: str
    systems: Sequence[str]
    complexity: str
    kickoff: date | str
    by: str
    hosting: str = "cloud"
    hostings: Sequence[str] = ()
    """The hosting of each system; empty: as the whole implementation."""
    custom_workflows: int = 0
    committed: date | str | None = None
    country: str | None = None
    owner: str = ""
    targets: Sequence[str] = ()
    tiers: Sequence[str] = ()
    """The tier of each system; empty: as `tariffs` have it for its product."""
    tariffs: Mapping[str, str] = field(default_factory=dict)
    """The app's own tiers and hostings by product."""
    vpns: Sequence[bool] = ()
    """Whether Makini reaches each system through a VPN tunnel."""
    app: str = "default"
    apps: Sequence[str] = ()
    """The apps there are; empty: none is configured yet."""
    over_credits_because: str = ""


@dataclass(frozen=True, slots=True)
class ImplementationOrder:
    """A form that can be."""

    scope: Scope
    outlook: Outlook
    template: Template
    customer: str
    owner: str
    by: str
    app: str
    costs: tuple[int, ...]
    tiers: tuple[str, ...]
    targets: tuple[str | None, ...]
    vpns: tuple[bool, ...]
    override: Override | None


def check(form: Form, known: Customer | None, *, now: datetime) -> ImplementationOrder:
    """The form as an order, or `PlanError` with all that is wrong; asks only form and template."""
    faults = FormErrors()
    customer = faults.of(lambda: _line("customer", form.customer))
    by = faults.of(lambda: _line("by", form.by))
    owner = form.owner or (known.owner if known and known.owner else form.by)
    owner = faults.of(lambda: _line("owner", owner)) if form.by or form.owner else owner
    faults.of(lambda: _once(form.systems))
    hostings = faults.of(lambda: _hostings(form.hosting, form.hostings, len(form.systems))) or ()
    hosting = _whole(hostings, form.hosting)
    targets = faults.of(lambda: _targets(form.targets, len(form.systems)))
    tiers = faults.of(lambda: _tiers(form)) or ()
    app = faults.of(lambda: _app(form))
    zone = known.time_zone if known else "UTC"
    country = faults.of(lambda: parse_country(form.country or None))
    calendar = faults.of(lambda: calendar_of(country, zone)) or calendar_of(None, zone)
    scope = faults.of(
        lambda: parse_scope(
            complexity=form.complexity,
            hosting=hosting,
            systems=len(form.systems),
            custom_workflows=form.custom_workflows,
            kickoff=form.kickoff,
            committed=form.committed or None,
            country=calendar.country,
            system_names=tuple(form.systems),
            vpn=any(form.vpns),
            hostings=hostings if len(set(hostings)) > 1 else (),
            today=_today(now, zone),
        )
    )
    faults.end()
    own = os.environ.get(TEMPLATES)
    template = load_template(scope.complexity, Path(own) if own else None)
    return ImplementationOrder(
        scope=scope,
        outlook=forecast_plan(make_plan(scope, template), calendar),
        template=template,
        customer=known.name if known else customer,
        owner=owner,
        by=by,
        app=app,
        costs=tuple(
            cost_of(tier, scope.hosting_of(number)) for number, tier in enumerate(tiers, start=1)
        ),
        tiers=tiers,
        targets=targets,
        vpns=(*form.vpns, *[False] * (scope.systems - len(form.vpns))),
        override=Override(by, form.over_credits_because) if form.over_credits_because else None,
    )


def _today(now: datetime, zone: str) -> date:
    """The day where the customer is. Where nobody said where that is, the earliest that it is
    anywhere: at five in the afternoon in Los Angeles it is tomorrow in UTC."""
    return (now - _WESTMOST if zone == "UTC" else now.astimezone(zone_of(zone))).date()


_WESTMOST = timedelta(hours=12)


def costs_of(form: Form) -> tuple[int, ...]:
    """What each system of `form` costs. Raises `PlanError` where that isn't known."""
    hostings = _hostings(form.hosting, form.hostings, len(form.systems))
    try:
        tiers = _tiers(form)
        return tuple(cost_of(*each) for each in zip(tiers, hostings, strict=True))
    except CreditError as error:
        raise PlanError(error.field, error.reason) from None


def words(order: ImplementationOrder) -> str:
    """Returns the text that announces the start in Slack."""
    scope = order.scope
    weeks = f"{order.outlook.plan.published[0]} to {order.outlook.plan.published[1]} weeks"
    reasons = "; ".join(order.outlook.plan.beyond)
    beyond = f" This plan is outside them: {reasons}." if reasons else ""
    promised = f", committed {scope.committed}" if scope.committed else ""
    hosting = f"{scope.hosting_shown}{' through a VPN' if scope.vpn else ''}"
    return (
        f"{order.customer} starts with {', '.join(scope.system_names)}: {scope.complexity}, "
        f"{hosting}, kickoff {scope.kickoff}, forecast go-live {order.outlook.p50} "
        f"(P50), {order.outlook.p80} (P80){promised}. Makini publishes {weeks}.{beyond} "
        f"Owner {person(order.owner).shown}."
    )


def fold(text: str) -> str:
    """Return it as names compare: without case and repeated spaces."""
    return " ".join(text.casefold().split())


def _line(field: str, value: str) -> str:
    text = " ".join(value.split())
    if not text:
        raise PlanError(field, "is empty")
    if len(text) > MAX_NAME or not text.isprintable():
        raise PlanError(field, f"must be one line of at most {MAX_NAME} characters")
    return text


def _app(form: Form) -> str:
    name = _line("app", form.app)
    if form.apps and name not in form.apps:
        known = ", ".join(sorted(form.apps))
        raise PlanError("app", f"there is no Makini app {name!r} (known: {known})")
    return name


def _once(systems: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in systems:
        if fold(name) in seen:
            raise PlanError(
                "systems", f"{name[:40]!r} is there twice; tell them apart, such as by their site"
            )
        seen.add(fold(name))


def _hostings(whole: str, of_each: Sequence[str], systems: int) -> tuple[str, ...]:
    """How each system is hosted. A self-hosted Makini is an app of its own."""
    hostings = tuple(hosting or whole for hosting in _of_each(of_each, systems))
    if len(set(hostings)) > 1 and "self-hosted" in hostings:
        raise PlanError(
            "systems",
            f"are hosted differently ({', '.join(sorted(set(hostings)))}): a self-hosted Makini is "
            "an app of its own, so start an implementation of its own for what it reaches",
        )
    return hostings


def _whole(hostings: Sequence[str], given: str) -> str:
    """The hosting whose steps there are: of several it is the one that needs more of them."""
    every = set(hostings) or {given}
    return next(iter(every)) if len(every) == 1 else "on-premises"


def _tiers(form: Form) -> tuple[str, ...]:
    given = _of_each([tier.upper() for tier in form.tiers], len(form.systems))
    tiers = tuple(
        tier or usual_tier(system, form.tariffs) or DEFAULT_TIER
        for tier, system in zip(given, form.systems, strict=True)
    )
    try:
        for tier in tiers:
            cost_of(tier, "cloud")
    except CreditError as error:
        raise PlanError("systems", error.reason) from None
    return tiers


def _of_each(values: Sequence[str], systems: int) -> tuple[str | None, ...]:
    if len(values) > systems:
        raise PlanError("systems", f"{len(values)} values for {counted(systems, 'system')}")
    return (*(value.strip() or None for value in values), *[None] * (systems - len(values)))


def _targets(values: Sequence[str], systems: int) -> tuple[str | None, ...]:
    try:
        return tuple(
            str(parse_target(value)) if value else None for value in _of_each(values, systems)
        )
    except TargetError as error:
        raise PlanError("systems", str(error)) from None
