"""The Slack channel operators read."""

from typing import ClassVar, Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from linekeeper.config import SlackConfig


class SlackChannel(Block):
    """The Slack channel operators read."""

    _block_type_name: ClassVar[str] = "Slack Channel"
    _block_type_slug: ClassVar[str] = "slack-channel"
    _description: ClassVar[str] = (
        "Where Linekeeper posts incidents: one message each, edited in place. Save it as "
        "`default`; run `test-alert` to see a message arrive."
    )

    bot_token: SecretStr = Field(
        title="Bot token",
        description="Starts with xoxb-; its app needs the scope chat:write and must be in the "
        "channel (files:write as well for charts).",
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

    def to_config(self) -> SlackConfig:
        """What the core reads. Raises `ValueError` naming a bad field."""
        if not self.bot_token.get_secret_value() or not self.channel.strip():
            raise ValueError("bot_token and channel must not be empty")
        return SlackConfig(
            bot_token=self.bot_token,
            channel=self.channel.strip(),
            signing_secret=self.signing_secret,
            api_url=self.api_url,
        )

    @classmethod
    def from_config(cls, config: SlackConfig) -> Self:
        """The block that says what `config` says."""
        return cls(**config.model_dump())
