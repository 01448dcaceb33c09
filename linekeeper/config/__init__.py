"""What an operator tunes, as plain data: one Makini app, Slack, health policy, alerts, mail.

Each is filled in as a Prefect block, copied by the consumer into the table `app_setting`, and
read from there by every part (DESIGN "Three kinds of process"). Fields, defaults, bounds and words
are written once: a block inherits the fields of its settings.
"""

from pydantic import Field

from linekeeper.config.alerts import (
    AlertFields,
    AlertPolicy,
    MailConfig,
    MailFields,
    Severity,
    SlackConfig,
    SlackFields,
)
from linekeeper.config.app import (
    DEFAULT_ENTITIES,
    AppConfig,
    AppFields,
    ForwardTarget,
    Mode,
    Paging,
    SinceFilter,
    WebhookScheme,
)
from linekeeper.config.base import Config, ForwardForm
from linekeeper.config.health import HealthFields, HealthPolicy

__all__ = [
    "DEFAULT_ENTITIES",
    "AlertFields",
    "AlertPolicy",
    "AppConfig",
    "AppFields",
    "Configuration",
    "ForwardForm",
    "ForwardTarget",
    "HealthFields",
    "HealthPolicy",
    "MailConfig",
    "MailFields",
    "Mode",
    "Paging",
    "Severity",
    "SinceFilter",
    "SlackConfig",
    "SlackFields",
    "WebhookScheme",
]


class Configuration(Config):
    """Everything together, as one process sees it at one moment."""

    apps: dict[str, AppConfig] = Field(default_factory=dict)
    slack: SlackConfig | None = None
    """The channel `default`: it takes what fits no other."""
    slack_channels: dict[str, SlackConfig] = Field(default_factory=dict)
    """The other channels, by the name of their block."""
    policy: HealthPolicy = HealthPolicy()
    mail: MailConfig | None = None
    alerts: AlertPolicy = AlertPolicy()
    problems: tuple[str, ...] = ()
    """What of the stored settings could not be used, a sentence each; the rest is in force."""
