"""What a configuration may be, and how far it has been verified. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linekeeper.config import AppConfig
from linekeeper.config.entities import resolve_entities
from linekeeper.refusal import Refusal
from linekeeper.store.tables import ConnectionSetting, Watermark, WorkflowConfiguration

Step = Literal["first_read", "webhooks", "reconcile", "verified"]
LONGEST_MINUTES = 7 * 24 * 60


class BadConfiguration(Refusal):
    """What was asked for can't be configured; the message says what to enter."""


@dataclass(frozen=True, slots=True)
class WantedConfiguration:
    """What a connection is to be configured to."""

    entities: Sequence[str]
    cadence_minutes: int | None
    """None: by the state of its webhooks."""
    keep_bodies: bool | None
    """None: as its app says."""
    forward_to: str | None = None
    """The name of a forward target of its app; None: the app's forward URL."""


@dataclass(frozen=True, slots=True)
class ConfigurationStanding:
    """How far a configuration is."""

    row: WorkflowConfiguration
    label: str
    settings: Sequence[ConnectionSetting]
    marks: Mapping[str, Watermark]
    delivered: Collection[str]
    """Entities of which a delivery was processed, as deliveries name them."""
    obstacle: str | None
    """Why the connection can't be read now."""

    @property
    def entities(self) -> list[str]:
        """What it is read for and its system offers, as far as that is known."""
        return [
            setting.entity
            for setting in self.settings
            if setting.entity not in self.marks or self.marks[setting.entity].offered
        ]

    @property
    def summary(self) -> str:
        """The configuration in a sentence, and what of it the system doesn't offer."""
        missing = [each.entity for each in self.settings if each.entity not in self.entities]
        said = f"; not offered by this system: {', '.join(missing)}" if missing else ""
        return how_configured(self.settings) + said

    @property
    def unread(self) -> list[str]:
        """Entities that have not been listed whole."""
        return [
            entity
            for entity in self.entities
            if entity not in self.marks or self.marks[entity].full_at is None
        ]

    @property
    def undelivered(self) -> list[str]:
        """Entities of which no delivery has been processed."""
        named = {*self.delivered}
        return [
            entity for entity in self.entities if not {entity, entity.rpartition("/")[2]} & named
        ]

    @property
    def step(self) -> Step:
        """What is to be verified next."""
        if self.unread:
            return "first_read"
        if self.undelivered and not self.row.webhooks_accepted:
            return "webhooks"
        return "verified" if self.row.reconciled_at is not None else "reconcile"


@dataclass(frozen=True, slots=True)
class Entered:
    """What somebody entered in a form."""

    entities: Sequence[str]
    cadence: int
    bodies: str
    forward_to: str


def take_wanted(form: Entered, app: AppConfig) -> WantedConfiguration:
    """What a form asks for, of a connection of `app`. Raises `BadConfiguration` with all faults."""
    faults: list[tuple[str, str]] = []
    cadence, bodies, target = form.cadence, form.bodies, form.forward_to.strip()
    entities: list[str] = []
    try:
        entities = resolve_entities(form.entities, app.entities)
    except ValueError as error:
        faults.append(("entities", str(error)))
    if not 0 <= cadence <= LONGEST_MINUTES:
        faults.append(("cadence", f"enter minutes from 1 to {LONGEST_MINUTES:,}, or 0"))
    keep = {"as the app says": None, "keep": True, "do not keep": False}
    if bodies not in keep:
        faults.append(("bodies", f"enter one of {', '.join(keep)}"))
    if target and target not in app.forward_targets:
        names = ", ".join(app.forward_targets)
        known_ones = f"known: {names}" if names else "the block Makini App names none"
        faults.append(("forward_to", f"there is no target {target!r} ({known_ones})"))
    if faults:
        raise BadConfiguration(*faults[0], *faults[1:])
    return WantedConfiguration(
        entities or list(app.entities), cadence or None, keep[bodies], target or None
    )


def how_configured(settings: Sequence[ConnectionSetting]) -> str:
    """The configuration in a sentence. Pure."""
    first = settings[0]
    pace = f"every {first.cadence_minutes} minutes" if first.cadence_minutes else "by its webhooks"
    kept = ", bodies kept" if first.keep_bodies else ""
    to = f", forwarded to {first.forward_to}" if first.forward_to else ""
    return f"{', '.join(setting.entity for setting in settings)}; read {pace}{kept}{to}"


def is_worth_a_look(standing: ConfigurationStanding, *, now: datetime) -> bool:
    """Whether the run that verifies it has something to do. Pure."""
    row = standing.row
    if row.run_id is None or row.waits_for is None or row.verified_at is not None:
        return False
    if row.look_at is not None and row.look_at <= now:
        return True
    return row.waits_for == "webhooks" and standing.step != "webhooks"
