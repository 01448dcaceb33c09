"""When a connection is in which health. Units are in the names (INTERFACE "Policy defaults")."""

from pydantic import Field

from linekeeper.config.base import (
    A_YEAR_OF_HOURS,
    A_YEAR_OF_MINUTES,
    AN_HOUR_OF_SECONDS,
    Config,
    Fields,
)


class HealthFields(Fields):
    """What is the same in the core and in the block's form."""

    probe_minutes: float = Field(
        default=10,
        ge=0,
        le=A_YEAR_OF_MINUTES,
        title="Probe every (minutes)",
        description="A healthy connection is probed at least that often; 0: all, every sweep.",
    )
    misses_unreachable: int = Field(
        default=3,
        ge=1,
        title="Misses until unreachable",
        description="This many failed probes in a row make a connection unreachable.",
    )
    flap_falls: int = Field(
        default=3,
        ge=2,
        title="Flap threshold",
        description=(
            "This many falls from healthy within the window below are flapping: the connection "
            "is degraded."
        ),
    )
    flap_window_minutes: float = Field(
        default=60,
        gt=0,
        le=A_YEAR_OF_MINUTES,
        title="Flapping window (minutes)",
        description="The time in which falls are counted.",
    )
    flap_quiet_minutes: float = Field(
        default=30,
        gt=0,
        le=A_YEAR_OF_MINUTES,
        title="Quiet after flapping (minutes)",
        description="A flapping connection is healthy again after this long without a fall.",
    )
    reopen_minutes: float = Field(
        default=60,
        ge=0,
        le=A_YEAR_OF_MINUTES,
        title="Reopen within (minutes)",
        description=(
            "What goes wrong again this soon after its incident was resolved reopens the same "
            "incident and message: a connection that fails, and whatever else Linekeeper finds."
        ),
    )
    slow_seconds: float = Field(
        default=10,
        gt=0,
        le=AN_HOUR_OF_SECONDS,
        title="Slow above (seconds)",
        description="A connection is degraded while the median of its last probes is above this.",
    )
    slow_samples: int = Field(
        default=5,
        ge=1,
        le=20,
        title="Probes in the median",
        description="How many of the last probes the median is taken of.",
    )
    stale_sync_hours: float = Field(
        default=24,
        gt=0,
        le=A_YEAR_OF_HOURS,
        title="Stale sync after (hours)",
        description="A connection whose last sync is older is degraded.",
    )
    root_cause_members: int = Field(
        default=5,
        ge=2,
        title="Root cause from (connections)",
        description="This many connections of one provider that fail alike are one incident ...",
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
        le=A_YEAR_OF_MINUTES,
        title="Root cause within (minutes)",
        description="So many as the next field says that fall within this time are one incident, "
        "too, however small a share they are.",
    )
    root_cause_together: int = Field(
        default=12,
        ge=2,
        title="Root cause together (connections)",
        description="... if they are of one provider, and at least so many.",
    )
    remind_hours: float = Field(
        default=4,
        gt=0,
        le=A_YEAR_OF_HOURS,
        title="Red again after (hours)",
        description=(
            "A sweep fails again for an incident that nobody has acknowledged for this long."
        ),
    )
    login_check_hours: float = Field(
        default=24,
        ge=0,
        le=A_YEAR_OF_HOURS,
        title="Login check every (hours)",
        description="A login that nothing was read with for this long is tested by reading one "
        "record, in mode manage and where a token is held; 0: never.",
    )
    failing_calls: int = Field(
        default=3,
        ge=1,
        title="Refused calls of the product",
        description="This many in a row contradict a good status of Makini's.",
    )
    failing_minutes: float = Field(
        default=60,
        gt=0,
        le=A_YEAR_OF_MINUTES,
        title="Refused calls count for (minutes)",
        description="For how long after the last one the product's refused calls count.",
    )


class HealthPolicy(Config, HealthFields):
    """When a connection is in which health."""

    @property
    def evidence_hours(self) -> float:
        """How long a read stands for the login: a login check is due before it is over."""
        return max(self.login_check_hours, 24.0) * 1.25
