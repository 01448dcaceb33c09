"""What the page says: the facts of one customer, and the answer made of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo

from pydantic import BaseModel

from linekeeper.customer_page.words import Words


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """One connection of the customer."""

    name: str
    setup: str
    health: str
    since: datetime
    login_url: str | None
    """Where to log in, if there is a link that works."""
    login_kept: bool = False
    """Somebody has logged in, and it could not be verified yet."""


@dataclass(frozen=True, slots=True)
class StepFacts:
    """One step of an implementation that is the customer's."""

    id: str
    kind: str
    title: str
    system: str | None
    targets: tuple[tuple[str, str], ...]
    """The systems it is about and where Makini is to reach them."""
    status: str
    proves_itself: bool
    due: date | None
    done_at: datetime | None
    note: str


class CustomerRequest(BaseModel):
    """Something that is asked of the customer now."""

    kind: str
    """`login` or `step`."""
    text: str
    url: str | None = None
    label: str | None = None


class Requirement(BaseModel):
    """A line of the checklist."""

    id: str
    title: str
    details: list[str]
    status: str
    status_text: str
    can_tick: bool
    due: date | None
    due_text: str | None
    note: str


class SystemState(BaseModel):
    """How one system is, and since when."""

    system: str
    state: str
    state_text: str
    since: datetime
    since_text: str


class CustomerStep(BaseModel):
    """One of the customer's steps."""

    title: str
    status: str
    status_text: str
    when: str | None


class CustomerPage(BaseModel):
    """Everything on the page, as `GET /customer/{token}.json` gives it."""

    customer: str
    language: str
    as_of: datetime
    asked: list[CustomerRequest]
    requirements: list[Requirement]
    connections: list[SystemState]
    steps: list[CustomerStep]


_SETTLED = ("done", "skipped")
_UNDER_WAY = ("pending", "authorizing", "syncing")


def make_page(
    customer: str,
    systems: Sequence[SystemFacts],
    steps: Sequence[StepFacts],
    words: Words,
    *,
    addresses: Sequence[str],
    zone: tzinfo,
    now: datetime,
) -> CustomerPage:
    """The page in the customer's language and time zone."""
    titled = [(step, _title(step, words)) for step in steps]
    return CustomerPage(
        customer=customer,
        language=words.language,
        as_of=now,
        asked=[
            *_logins(systems, words),
            *(
                CustomerRequest(kind="step", text=title)
                for step, title in titled
                if step.status in ("open", "blocked") and not step.proves_itself
            ),
        ],
        requirements=[
            Requirement(
                id=step.id,
                title=title,
                details=_detail(step, words, addresses),
                status=step.status,
                status_text=_status(step, words),
                can_tick=step.status in ("open", "blocked") and not step.proves_itself,
                due=step.due,
                due_text=words.say("page", "due", when=words.day(step.due)) if step.due else None,
                note=step.note,
            )
            for step, title in titled
            if step.status not in _SETTLED
        ],
        connections=[
            SystemState(
                system=system.name,
                state=_state(system),
                state_text=words.name("state_names", _state(system), _state(system)),
                since=system.since,
                since_text=words.say(
                    "page", "since", when=words.moment(system.since.astimezone(zone))
                ),
            )
            for system in systems
        ],
        steps=[
            CustomerStep(
                title=title,
                status=step.status,
                status_text=_status(step, words),
                when=_when(step, words, zone),
            )
            for step, title in titled
        ],
    )


def _state(system: SystemFacts) -> str:
    return system.setup if system.setup in _UNDER_WAY else system.health


def _logins(systems: Sequence[SystemFacts], words: Words) -> list[CustomerRequest]:
    asked = []
    for system in systems:
        lost = system.health == "reauthorization_required"
        if not lost and system.login_url is None:
            continue
        text = "login" if system.login_url else "login_no_link"
        if system.login_kept:
            text = "login_kept"
        asked.append(
            CustomerRequest(
                kind="login",
                text=words.say("asked_for", text, system=system.name),
                url=system.login_url,
                label=words.say("asked_for", "login_button", system=system.name),
            )
        )
    return asked


def _title(step: StepFacts, words: Words) -> str:
    title = words.name("steps", step.kind, step.title)
    return f"{title}: {step.system}" if step.system and step.system not in title else title


def _detail(step: StepFacts, words: Words, addresses: Sequence[str]) -> list[str]:
    """What the step that opens the way asks of the customer's network."""
    if step.kind != "network":
        return []
    return [
        words.say(
            "asked_for",
            "open_port",
            system=system,
            target=target,
            addresses=", ".join(addresses),
        )
        for system, target in step.targets
    ]


def _status(step: StepFacts, words: Words) -> str:
    """`to do` is only what the customer can say is done."""
    status = "checked" if step.status == "open" and step.proves_itself else step.status
    return words.name("step_states", status, step.status)


def _when(step: StepFacts, words: Words, zone: tzinfo) -> str | None:
    if step.done_at is not None:
        return words.say("page", "done_on", when=words.day(step.done_at.astimezone(zone)))
    return words.say("page", "due", when=words.day(step.due)) if step.due else None
