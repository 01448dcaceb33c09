"""What the reports of the fleet and of a connection say, as plain data. Times are aware UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from linekeeper.access.pending import KeptLogin
from linekeeper.spending import Spent
from linekeeper.store.tables import Connection, Customer, Incident, Observation, Transition
from linekeeper.views.health_chart import Bar
from linekeeper.views.managed import Managed
from linekeeper.views.windows import WindowsGlance

TRANSITIONS_SHOWN = 50
OBSERVATIONS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class AppLine:
    """A Makini app: `mode` is None for one no longer configured."""

    name: str
    mode: str | None
    connections: int
    healthy: int
    last_list_at: datetime | None
    """None: never."""
    managed: Managed = field(default_factory=Managed)
    """How many of them are managed."""
    listed: int = 0
    """How many of the healthy ones nothing but Makini's list calls well."""
    left_out: int = 0
    """How many the last sweep did not probe though they were due."""
    calls_per_minute: int = 0
    spent: Sequence[Spent] = ()
    """Who spent how much of the calls, most first."""
    stated: str = ""
    """What Makini last said of its limit."""
    last_check_at: datetime | None = None
    """When a connection of it was last checked."""


@dataclass(frozen=True, slots=True)
class TroubleLine:
    """A connection in trouble, with the last answer that says why."""

    id: str
    label: str
    """What people call it: `Customer · System`."""
    name: str
    slug: str
    critical: bool
    app: str
    hosting: str
    health: str
    since: datetime
    last_checked_at: datetime | None
    answer: Observation | None = None
    """The last observation that says what is wrong."""
    incident: Incident | None = None


@dataclass(frozen=True, slots=True)
class FleetReport:
    """The whole fleet at `at`. Disconnected connections count in `by_setup` only."""

    at: datetime
    by_health: Mapping[str, int]
    by_setup: Mapping[str, int]
    evidence: Mapping[str, int]
    """How strong the evidence of the healthy ones is: `listed`, `probed`, `read`."""
    apps: Sequence[AppLine]
    troubles: Sequence[TroubleLine]
    """Critical customers first, then the newest; at most `TROUBLES_SHOWN`."""
    troubles_total: int
    tokenless: Sequence[str]
    """What people call them; at most `TOKENLESS_SHOWN`."""
    tokenless_total: int
    history: Sequence[Bar]
    mode_rules: Sequence[str] = ()
    """What there are rules for the mode of."""
    windows: WindowsGlance = field(default_factory=WindowsGlance)
    """Of whom nobody is notified now."""
    unchecked_since: datetime | None = None
    """No sweep was completed since, and that is an incident: all this is as it was known then."""

    @property
    def connections(self) -> int:
        """How many there are, without those that were disconnected."""
        return sum(self.by_health.values())


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """One connection at `at`: who it is, how it is, how it came about. Newest first."""

    at: datetime
    label: str
    connection: Connection
    customer: Customer | None
    has_token: bool
    mode: str | None
    incidents: Sequence[Incident]
    transitions: Sequence[Transition]
    """The last transitions of both axes: `TRANSITIONS_SHOWN`, and one where there are more."""
    observations: Sequence[Observation]
    """The last observations: `OBSERVATIONS_SHOWN`, and one where there are more."""
    is_renewal_lost: bool = False
    """Makini's answer to the renewal of its tokens was lost, and it refuses the old ones."""
    login_kept: KeptLogin | None = None
    """Somebody has logged in, and it could not be verified yet."""
