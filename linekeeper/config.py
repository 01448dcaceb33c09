"""What an operator tunes, as plain data: one Makini app, Slack, health policy, alerts, mail.

Each is filled in as a Prefect block, copied by the consumer into the table `app_setting`, and
read from there by every part (DESIGN "Three kinds of process"). Every unknown of MAKINI.md is a
field here with the documented default.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

Mode = Literal["observe", "manage"]
Paging = Literal["page", "cursor"]
SinceFilter = Literal["filter", "modified_after"]
WebhookScheme = Literal["makini", "standard"]
ForwardForm = Literal["envelope", "original"]
Severity = Literal["low", "normal", "critical"]

DEFAULT_ENTITIES = ("eam/work-orders", "eam/assets", "eam/sites", "erp/purchase-orders")


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class AppConfig(_Config):
    """One Makini account or self-hosted instance."""

    name: str = "default"
    mode: Mode = "observe"
    api_url: str = "https://api.makini.io"
    link_url: str = "https://link.makini.io"
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    connection_field: Literal["key", "id"] = "key"
    """Which field of a listed connection the Admin API's `{id}` routes take."""
    per_page: int = Field(default=100, ge=1, le=500)
    paging: Paging = "page"
    since: SinceFilter = "filter"
    per_minute: int = Field(default=600, ge=0)
    """Calls a minute that Makini allows the whole app; 0 = no limit."""
    share: float = Field(default=1.0, gt=0, le=1)
    """What part of them is ours; the product spends the rest."""
    timeout_seconds: float = Field(default=15.0, gt=0)
    entities: tuple[str, ...] = DEFAULT_ENTITIES
    bodies: tuple[str, ...] = ()
    webhook_secrets: tuple[SecretStr, ...] = ()
    webhook_scheme: WebhookScheme = "makini"
    webhook_reserialized: bool = False
    """Accept a signature over the compact re-serialised JSON too."""
    event_kinds: dict[str, str] = Field(default_factory=dict)
    """Event name pattern (`fnmatch`) → our kind; asked before the built-in table."""
    natural_keys: dict[str, str] = Field(default_factory=dict)
    """Entity → the fields that tell its records apart, joined by `+`; asked before the built-in
    table (reconcile.identity)."""
    tariffs: dict[str, str] = Field(default_factory=dict)
    """Provider → tier and hosting of its connections, such as `III on-premises`, where neither
    Makini's list nor a person says it; asked before the built-in table (credits.tariff)."""
    state_required: bool = True
    """Refuse a callback without the `state` we sent; off: the browser's own copy will do."""
    notify_customers: bool = False
    forward_url: str | None = None
    forward_secret: SecretStr = SecretStr("")
    forward_form: ForwardForm = "envelope"
    """`envelope`: ours, signed with the forward secret. `original`: Makini's body and headers."""

    @field_validator("name")
    @classmethod
    def _name_is_a_slug(cls, value: str) -> str:
        if not value or not all(c.isalnum() or c in "-_" for c in value):
            raise ValueError("an app's name has letters, digits, - and _ only")
        return value

    @field_validator("tariffs")
    @classmethod
    def _tariffs_are_known(cls, value: dict[str, str]) -> dict[str, str]:
        known = {"i", "ii", "iii", "cloud", "on-premises", "self-hosted"}
        for provider, text in value.items():
            if odd := [word for word in text.split() if word.lower() not in known]:
                raise ValueError(f"{provider}: {odd[0]} is no tier (I, II, III) and no hosting")
        return value

    @field_validator("api_url", "link_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("give a URL that starts with https:// (or http://)")
        return value.rstrip("/")

    @property
    def calls_a_minute(self) -> int:
        """Our own budget, all processes together; 0 = no limit."""
        return max(1, int(self.per_minute * self.share)) if self.per_minute else 0

    @property
    def manages(self) -> bool:
        """Whether anything at Makini may be changed (DESIGN "Do no harm")."""
        return self.mode == "manage"

    def is_called_like(self, other: "AppConfig") -> bool:
        """Whether Makini is called the same way for both: at most they differ in what is read."""
        if self is other or self == other:
            return True
        read = {"entities": other.entities, "bodies": other.bodies}
        return self.model_copy(update=read) == other


class SlackConfig(_Config):
    """The Slack channel operators read."""

    bot_token: SecretStr
    channel: str
    signing_secret: SecretStr = SecretStr("")
    api_url: str = "https://slack.com/api/"

    @field_validator("api_url")
    @classmethod
    def _ends_with_slash(cls, value: str) -> str:
        return value.rstrip("/") + "/"


class HealthPolicy(_Config):
    """When a connection is what (INTERFACE "Policy defaults"). Units are in the names."""

    probe_minutes: float = Field(default=10, ge=0)
    """A healthy connection is probed at least that often; 0 = all, every sweep."""
    misses_unreachable: int = Field(default=3, ge=1)
    flap_falls: int = Field(default=3, ge=2)
    flap_window_minutes: float = Field(default=60, gt=0)
    flap_quiet_minutes: float = Field(default=30, gt=0)
    reopen_minutes: float = Field(default=60, ge=0)
    slow_seconds: float = Field(default=10, gt=0)
    slow_samples: int = Field(default=5, ge=1, le=20)
    stale_sync_hours: float = Field(default=24, gt=0)
    root_cause_members: int = Field(default=5, ge=2)
    root_cause_share: float = Field(default=0.5, gt=0, le=1)
    root_cause_minutes: float = Field(default=10, ge=0)
    """So many members in trouble within it are one cause too, whatever their share."""
    remind_hours: float = Field(default=4, gt=0)
    """A sweep is red again for an incident unacknowledged this long."""
    login_check_hours: float = Field(default=24, ge=0)
    """A login that nothing was read with for so long is tested by reading one record; 0 = never."""
    failing_calls: int = Field(default=3, ge=1)
    """So many refused calls of the product in a row contradict a good word of Makini's."""
    failing_minutes: float = Field(default=60, gt=0)
    """They are in a row, and count, so long after the last one."""

    @property
    def evidence_hours(self) -> float:
        """How long a read stands for the login: a login check is due before it is over."""
        return max(self.login_check_hours, 24.0) * 1.25


class MailConfig(_Config):
    """The account customers' mail is sent from."""

    smtp_url: SecretStr
    sender: str


class AlertPolicy(_Config):
    """Who hears what, when (INTERFACE "Policy defaults"). Units are in the names."""

    time_zone: str = "UTC"
    quiet_hours: str = ""
    """Of Slack, such as `22:00-07:00`; empty: none. Critical incidents pass."""
    quiet_days: str = ""
    """Such as `sat, sun`."""
    first_after_minutes: float = Field(default=0, ge=0, le=1440)
    """Told only if it lasts so long; critical incidents at once."""
    remind_hours: float = Field(default=4, gt=0)
    remind_growth: float = Field(default=2, ge=1)
    """Each gap between reminders is so many times the one before ..."""
    remind_max_hours: float = Field(default=24, gt=0)
    """... and never longer than this."""
    escalate_minutes: float = Field(default=60, ge=0)
    escalate_from: Literal["low", "normal", "critical", "never"] = "critical"
    cap_per_hour: int = Field(default=20, ge=1)
    """First messages an hour in a channel; what is beyond is one message."""
    elsewhere: tuple[SecretStr, ...] = ()
    """Apprise URLs: told of escalations, and of everything Slack can't be reached."""
    elsewhere_quiet_hours: str = ""
    elsewhere_quiet_days: str = ""


class Configuration(_Config):
    """Everything together, as one process sees it at one moment."""

    apps: dict[str, AppConfig] = Field(default_factory=dict)
    slack: SlackConfig | None = None
    policy: HealthPolicy = HealthPolicy()
    mail: MailConfig | None = None
    alerts: AlertPolicy = AlertPolicy()
    problems: tuple[str, ...] = ()
    """What of the stored settings could not be used, a sentence each; the rest is in force."""

    @property
    def managed(self) -> list[str]:
        """The apps at which something may be changed."""
        return [name for name, app in self.apps.items() if app.manages]
