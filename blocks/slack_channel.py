"""A Slack channel operators read, and which messages it takes."""

from typing import ClassVar, Self

from prefect.blocks.core import Block

from linekeeper.config import SlackConfig, SlackFields
from linekeeper.notify.routing import check


class SlackChannel(SlackFields, Block):
    """A Slack channel operators read, and which messages it takes."""

    _block_type_name: ClassVar[str] = "Slack Channel"
    _block_type_slug: ClassVar[str] = "slack-channel"
    _description: ClassVar[str] = (
        "Where Linekeeper posts incidents: one message each, edited in place. Save it as "
        "`default`; run `doctor` with a test message to see one arrive. Further blocks of any name "
        "are further channels: the first whose rules fit takes a message, `default` the rest."
    )

    def to_config(self) -> SlackConfig:
        """What the core reads. Raises `ValueError` naming a bad field."""
        if not self.bot_token.get_secret_value() or not self.channel.strip():
            raise ValueError("bot_token and channel must not be empty")
        fields = self.model_dump(include=set(SlackFields.model_fields))
        config = SlackConfig(**fields | {"channel": self.channel.strip()})
        check(config)
        return config

    @classmethod
    def from_config(cls, config: SlackConfig) -> Self:
        """The block that says what `config` says."""
        return cls(**config.model_dump())
