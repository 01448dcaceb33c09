"""The Slack channel operators read."""

from typing import ClassVar, Self

from prefect.blocks.core import Block

from linekeeper.config import SlackConfig, SlackFields


class SlackChannel(SlackFields, Block):
    """The Slack channel operators read."""

    _block_type_name: ClassVar[str] = "Slack Channel"
    _block_type_slug: ClassVar[str] = "slack-channel"
    _description: ClassVar[str] = (
        "Where Linekeeper posts incidents: one message each, edited in place. Save it as "
        "`default`; run `doctor` with a test message to see one arrive."
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
