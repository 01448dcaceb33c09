"""Who is notified, when, and where: the alert policy with its quiet times, Slack channels, mail.

Units are in the names (INTERFACE "Policy defaults"). Instants are UTC, hours are local.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator

from linekeeper.config.base import (
    A_YEAR_OF_HOURS,
    A_YEAR_OF_MINUTES,
    Config,
    Fields,
    require_mail_server,
)

_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_INSTANT = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Quiet:
    """The time from `start` to `end` each day (past midnight if `end` is earlier), and all
    `days`."""

    start: time | None = None
    end: time | None = None
    days: frozenset[int] = frozenset()
    """Days of the week, Monday is 0."""
    zone: tzinfo = UTC

    def holds(self, at: datetime) -> bool:
        local = at.astimezone(self.zone)
        if local.weekday() in self.days:
            return True
        if self.start is None or self.end is None:
            return False
        clock = local.time()
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def until(self, at: datetime) -> datetime:
        """When the quiet that holds at `at` ends; `at` itself where none does."""
        if not self.holds(at):
            return at
        ends = (edge for edge in self._edges(at, range(-1, 10)) if edge > at)
        return next((edge for edge in ends if not self.holds(edge)), at + timedelta(days=9))

    def ended(self, at: datetime) -> datetime | None:
        """When it was last quiet until, at or before `at`; None within the last nine days."""
        if self.start is None and not self.days:
            return None
        for edge in reversed(list(self._edges(at, range(-9, 2)))):
            if edge <= at and not self.holds(edge) and self.holds(edge - _INSTANT):
                return edge
        return None

    def _edges(self, at: datetime, days: range) -> Iterator[datetime]:
        """The instants around `at` at which quiet may begin or end, in order.

        A time that is there twice, when clocks go back, is two instants; what clocks skip when
        they go forward ends when they do.
        """
        today = at.astimezone(self.zone).date()
        clocks = {time(0), *(clock for clock in (self.start, self.end) if clock is not None)}
        edges = {
            datetime.combine(
                today + timedelta(days=day), clock.replace(fold=fold), self.zone
            ).astimezone(UTC)
            for day in days
            for clock in clocks
            for fold in (0, 1)
        }
        instants = sorted(edges)
        changes = (self._changed(earlier, later) for earlier, later in pairwise(instants))
        yield from sorted({*instants, *(change for change in changes if change is not None)})

    def _changed(self, earlier: datetime, later: datetime) -> datetime | None:
        """When the clocks were changed between two instants, to the second; None if never."""
        before, after = (each.astimezone(self.zone).utcoffset() for each in (earlier, later))
        if before == after:
            return None
        while later - earlier > _SECOND:
            middle = earlier + (later - earlier) // 2
            if middle.astimezone(self.zone).utcoffset() == before:
                earlier = middle
            else:
                later = middle
        return later.replace(microsecond=0)


def quiet_times(hours: str, days: str, zone: str) -> Quiet:
    """What an operator wrote: `22:00-07:00`, `sat, sun`, `Europe/Berlin`; empty: never.

    Raises `ValueError` that says what is wrong.
    """
    numbers = frozenset(_day(word) for word in re.split(r"[,\s]+", days.strip()) if word)
    if len(numbers) == len(_DAYS):
        raise ValueError("quiet days: all seven days are quiet, so nobody would ever be notified")
    start = end = None
    if hours.strip():
        matched = _HOURS.fullmatch(hours.strip())
        if matched is None:
            raise ValueError(f"quiet hours: write them as 22:00-07:00, not {hours.strip()[:40]!r}")
        try:
            start = time(int(matched[1]), int(matched[2]))
            end = time(int(matched[3]), int(matched[4]))
        except ValueError:
            raise ValueError(f"quiet hours: there is no such time in {hours.strip()!r}") from None
        if start == end:
            raise ValueError("quiet hours: begin and end are the same")
    return Quiet(start, end, numbers, time_zone(zone))


def time_zone(name: str) -> ZoneInfo:
    """The zone called `name`. Raises `ValueError`."""
    try:
        return ZoneInfo(name.strip() or "UTC")
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"there is no time zone {name[:60]!r}; write it as Europe/Berlin"
        ) from None


def _day(word: str) -> int:
    try:
        return _DAYS.index(word.strip().lower()[:3])
    except ValueError:
        raise ValueError(f"quiet days: there is no day {word[:20]!r}; write sat, sun") from None


Severity = Literal["low", "normal", "critical"]


class AlertFields(Fields):
    """What is the same in the core and in the block's form."""

    time_zone: str = Field(
        default="UTC",
        title="Time zone",
        description="The time zone of the hours and days below, such as Europe/Berlin.",
    )
    quiet_hours: str = Field(
        default="",
        title="Quiet hours in Slack",
        description=(
            "Such as 22:00-07:00; empty: none. Critical incidents are notified at any hour; all "
            "others come as one message in the morning."
        ),
    )
    quiet_days: str = Field(
        default="", title="Quiet days in Slack", description="sat, sun, say; empty: none."
    )
    first_after_minutes: float = Field(
        default=0,
        ge=0,
        le=1440,
        title="Alert delay (minutes)",
        description=(
            "An incident that is resolved sooner is recorded, not notified. 0: every incident is "
            "notified at once. Critical ones always are."
        ),
    )
    remind_hours: float = Field(
        default=4,
        gt=0,
        le=A_YEAR_OF_HOURS,
        title="First reminder after (hours)",
        description=(
            "The reminder is posted in the thread and mentions the owner, unless somebody has "
            "acknowledged the incident."
        ),
    )
    remind_growth: float = Field(
        default=2,
        ge=1,
        title="Backoff multiplier",
        description="Each interval between reminders is this many times the one before ...",
    )
    remind_max_hours: float = Field(
        default=24,
        gt=0,
        le=A_YEAR_OF_HOURS,
        title="Longest interval (hours)",
        description="... and never longer than this.",
    )
    escalate_minutes: float = Field(
        default=60,
        ge=0,
        le=A_YEAR_OF_MINUTES,
        title="Escalate after (minutes)",
        description=(
            "An incident that nobody has acknowledged by then is shown in the channel again and "
            "sent to the fallback channels."
        ),
    )
    escalate_from: Literal["low", "normal", "critical", "never"] = Field(
        default="critical",
        title="Escalate from",
        description="The least severity that is escalated.",
    )
    cap_per_hour: int = Field(
        default=20,
        ge=1,
        title="First messages an hour",
        description="At most this many in Slack; the incidents beyond them share one message.",
    )
    elsewhere_quiet_hours: str = Field(
        default="",
        title="Quiet hours of fallback channels",
        description="As above: critical incidents are sent at any hour, all others wait.",
    )
    elsewhere_quiet_days: str = Field(
        default="", title="Quiet days of fallback channels", description="As above."
    )


class AlertPolicy(Config, AlertFields):
    """Who is notified of an incident, when and where."""

    elsewhere: tuple[SecretStr, ...] = ()
    """Apprise URLs: notified of escalations, and of everything that can't be sent to Slack."""

    @property
    def quiet(self) -> Quiet:
        """When Slack is quiet. Raises `ValueError` for what can't be read, which forms refuse."""
        return quiet_times(self.quiet_hours, self.quiet_days, self.time_zone)


class SlackFields(Fields):
    """What is the same in the core and in the block's form."""

    bot_token: SecretStr = Field(
        title="Bot token",
        description="Starts with xoxb-; its app needs the scope chat:write and must be in the "
        "channel.",
    )
    channel: str = Field(
        title="Channel", description="The channel's id (C0123ABCD) or name (#line-health)."
    )
    signing_secret: SecretStr = Field(
        default=SecretStr(""),
        title="Signing secret",
        description="From the Slack app's Basic Information; buttons in messages need it.",
    )
    app_token: SecretStr = Field(
        default=SecretStr(""),
        title="App token (Socket Mode)",
        description="Starts with xapp-, with the scope connections:write: buttons and dialogs then "
        "work without a public address and without a signing secret. Switch Socket Mode on in the "
        "Slack app.",
    )
    api_url: str = Field(
        default="https://slack.com/api/",
        title="API URL",
        description="Only changed for tests and for gateways that speak Slack's API.",
    )
    position: int = Field(
        default=100,
        title="Position",
        description="Channels are asked in this order, then by name; the first whose rules fit "
        "takes the message. The block default is asked last and takes what fits no other; the "
        "rules below don't count for it.",
    )
    owners: str = Field(
        default="",
        title="Owners",
        description="Takes what concerns customers of these owners, separated by commas. Of the "
        "fields that are filled in each has to fit.",
    )
    customers: str = Field(
        default="",
        title="Customers",
        description="Takes what concerns these customers, by name or slug, separated by commas.",
    )
    tags: str = Field(
        default="",
        title="Tags",
        description="Takes what concerns connections with one of these tags.",
    )
    providers: str = Field(
        default="",
        title="Providers",
        description="Takes what concerns connections to these providers: sap-ecc, maximo.",
    )
    severities: str = Field(
        default="", title="Severities", description="Some of: critical, normal, low."
    )
    topics: str = Field(
        default="",
        title="Topics",
        description="A kind of incident (reauthorization_required, unreachable, part_silent), its "
        "topic (health, list, expiry, webhooks, stream, deletions, entities, preflight, runs, "
        "parts), or of other messages: digest, implementation, login.",
    )


class SlackConfig(Config, SlackFields):
    """One Slack channel operators read, and which messages it takes (`notify.routing`)."""

    @property
    def has_buttons(self) -> bool:
        """Whether what is pressed in its messages reaches us."""
        secrets = (self.signing_secret, self.app_token)
        return any(secret.get_secret_value().strip() for secret in secrets)

    @field_validator("api_url")
    @classmethod
    def _ends_with_slash(cls, value: str) -> str:
        return value.rstrip("/") + "/"


class MailFields(Fields):
    """What is the same in the core and in the block's form."""

    smtp_url: SecretStr = Field(
        title="SMTP URL",
        description="smtps://user:password@host:465, or smtp://user:password@host:587 (STARTTLS).",
    )
    sender: str = Field(
        title="From", description="The sender's address: Acme Integrations <it@acme.example>."
    )


class MailConfig(Config, MailFields):
    """The account customers' mail is sent from."""

    @field_validator("smtp_url")
    @classmethod
    def _server(cls, value: SecretStr) -> SecretStr:
        require_mail_server(value.get_secret_value())
        return value
