"""Who hears of an incident, when and where."""

from typing import ClassVar, Literal, Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from linekeeper import config as core
from linekeeper.notify.policy import check


class AlertPolicy(Block):
    """Who hears of an incident, when and where."""

    _block_type_name: ClassVar[str] = "Alert Policy"
    _block_type_slug: ClassVar[str] = "alert-policy"
    _description: ClassVar[str] = (
        "When operators hear of incidents: quiet hours, reminders, escalation, the cap, and who "
        "else hears when Slack doesn't. Save it as `default`."
    )

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
    elsewhere: SecretStr = Field(
        default=SecretStr(""),
        title="Escalation and fallback channels",
        description="Apprise URLs separated by spaces (pagerduty://, workflows:// for Teams, "
        "mailto://, json://, and more): notified of escalations, and of everything that can't be "
        "sent to Slack.",
    )
    elsewhere_quiet_hours: str = Field(
        default="",
        title="Quiet hours elsewhere",
        description="As above; what is critical passes, the rest waits.",
    )
    elsewhere_quiet_days: str = Field(
        default="", title="Quiet days elsewhere", description="As above."
    )

    def to_config(self) -> core.AlertPolicy:
        """What the core reads. Raises `ValueError` that says what contradicts itself."""
        fields = {name: getattr(self, name) for name in core.AlertPolicy.model_fields}
        urls = self.elsewhere.get_secret_value().split()
        config = core.AlertPolicy(**fields | {"elsewhere": tuple(SecretStr(url) for url in urls)})
        check(config)
        return config

    @classmethod
    def from_config(cls, config: core.AlertPolicy) -> Self:
        """The block that says what `config` says."""
        urls = " ".join(url.get_secret_value() for url in config.elsewhere)
        return cls(**config.model_dump(exclude={"elsewhere"}) | {"elsewhere": SecretStr(urls)})
