"""When a connection is in which health, and who is notified of what, when. Units are in the names
(INTERFACE "Policy defaults").
"""

from typing import Literal

from pydantic import Field, SecretStr

from linekeeper.config.base import Config, Fields
from linekeeper.config.quiet import Quiet, quiet_times

Severity = Literal["low", "normal", "critical"]


class HealthFields(Fields):
    """What is the same in the core and in the block's form."""

    probe_minutes: float = Field(
        default=10,
        ge=0,
        title="Probe every (minutes)",
        description="A healthy connection is probed at least that often; 0: all, every sweep.",
    )
    misses_unreachable: int = Field(
        default=3,
        ge=1,
        title="Misses until unreachable",
        description="So many failing probes in a row make a connection unreachable.",
    )
    flap_falls: int = Field(
        default=3,
        ge=2,
        title="Flap threshold",
        description="So many falls from healthy within the window below are flapping: degraded.",
    )
    flap_window_minutes: float = Field(
        default=60, gt=0, title="Flapping window (minutes)", description="Falls are counted in it."
    )
    flap_quiet_minutes: float = Field(
        default=30,
        gt=0,
        title="Quiet after flapping (minutes)",
        description="A flapping connection is healthy again after so long without a fall.",
    )
    reopen_minutes: float = Field(
        default=60,
        ge=0,
        title="Reopen within (minutes)",
        description="A fall so soon after a resolve reopens the same incident and message.",
    )
    slow_seconds: float = Field(
        default=10,
        gt=0,
        title="Slow above (seconds)",
        description="Median of the last probes above which a connection is degraded.",
    )
    slow_samples: int = Field(
        default=5, ge=1, le=20, title="Probes in the median", description="How many are looked at."
    )
    stale_sync_hours: float = Field(
        default=24,
        gt=0,
        title="Stale sync after (hours)",
        description="A connection whose last sync is older is degraded.",
    )
    root_cause_members: int = Field(
        default=5,
        ge=2,
        title="Root cause from (connections)",
        description="So many connections of one provider failing alike are one incident ...",
    )
    root_cause_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        title="Root cause from (share)",
        description="... if they are at least this share of the provider's connections.",
    )
    root_cause_minutes: float = Field(
        default=10,
        ge=0,
        title="Root cause within (minutes)",
        description="So many of one provider falling within it are one incident too.",
    )
    remind_hours: float = Field(
        default=4,
        gt=0,
        title="Red again after (hours)",
        description="A sweep fails again for an incident nobody acknowledged for so long.",
    )
    login_check_hours: float = Field(
        default=24,
        ge=0,
        title="Login check every (hours)",
        description="A login that nothing was read with for so long is tested by reading one "
        "record, in mode manage and where a token is held; 0: never.",
    )
    failing_calls: int = Field(
        default=3,
        ge=1,
        title="Refused calls of the product",
        description="So many in a row contradict a good word of Makini's.",
    )
    failing_minutes: float = Field(
        default=60,
        gt=0,
        title="Refused calls count for (minutes)",
        description="So long after the last one the product's refused calls count.",
    )


class HealthPolicy(Config, HealthFields):
    """When a connection is in which health."""

    @property
    def evidence_hours(self) -> float:
        """How long a read stands for the login: a login check is due before it is over."""
        return max(self.login_check_hours, 24.0) * 1.25


class AlertFields(Fields):
    """What is the same in the core and in the block's form."""

    time_zone: str = Field(
        default="UTC", title="Time zone", description="Of the hours and days below: Europe/Berlin."
    )
    quiet_hours: str = Field(
        default="",
        title="Quiet hours in Slack",
        description="22:00-07:00, say; empty: none. What is critical passes; the rest is one "
        "message in the morning.",
    )
    quiet_days: str = Field(
        default="", title="Quiet days in Slack", description="sat, sun, say; empty: none."
    )
    first_after_minutes: float = Field(
        default=0,
        ge=0,
        le=1440,
        title="Alert delay (minutes)",
        description="What is over sooner is recorded, not told. 0: everything is told at once, "
        "and what is critical always is.",
    )
    remind_hours: float = Field(
        default=4,
        gt=0,
        title="First reminder after (hours)",
        description="In the thread, calling the owner, unless somebody has acknowledged it.",
    )
    remind_growth: float = Field(
        default=2,
        ge=1,
        title="Backoff multiplier",
        description="Each gap between reminders is so many times the one before ...",
    )
    remind_max_hours: float = Field(
        default=24,
        gt=0,
        title="Longest gap (hours)",
        description="... and never longer than this.",
    )
    escalate_minutes: float = Field(
        default=60,
        ge=0,
        title="Escalate after (minutes)",
        description="What nobody has acknowledged by then is shown in the channel again, and told "
        "elsewhere.",
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
        description="At most so many in Slack; what is beyond is one message.",
    )
    elsewhere_quiet_hours: str = Field(
        default="",
        title="Quiet hours elsewhere",
        description="As above; what is critical passes, the rest waits.",
    )
    elsewhere_quiet_days: str = Field(
        default="", title="Quiet days elsewhere", description="As above."
    )


class AlertPolicy(Config, AlertFields):
    """Who is notified of an incident, when and where."""

    elsewhere: tuple[SecretStr, ...] = ()
    """Apprise URLs: notified of escalations, and of everything that can't be sent to Slack."""

    @property
    def quiet(self) -> Quiet:
        """When Slack is quiet. Raises `ValueError` for what can't be read, which forms refuse."""
        return quiet_times(self.quiet_hours, self.quiet_days, self.time_zone)
