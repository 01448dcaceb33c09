"""Where messages go: the operators' Slack, and the account of mail to customers."""

from pydantic import Field, SecretStr, field_validator

from linekeeper.config.base import Config, Fields


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
    api_url: str = Field(
        default="https://slack.com/api/",
        title="API URL",
        description="Only changed for tests and for gateways that speak Slack's API.",
    )


class SlackConfig(Config, SlackFields):
    """The Slack channel operators read."""

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
