"""Where messages go: the operators' Slack channels, and the account of mail to customers."""

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
