"""Who is notified of an incident, when and where."""

from typing import ClassVar, Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from linekeeper import config as core
from linekeeper.notify.policy import check


class AlertPolicy(core.AlertFields, Block):
    """Who is notified of an incident, when and where."""

    _block_type_name: ClassVar[str] = "Alert Policy"
    _block_type_slug: ClassVar[str] = "alert-policy"
    _description: ClassVar[str] = (
        "When operators are notified of incidents: quiet hours, reminders, escalation, the cap, "
        "and who is notified where Slack can't be reached. Save it as `default`."
    )

    elsewhere: SecretStr = Field(
        default=SecretStr(""),
        title="Escalation and fallback channels",
        description="Apprise URLs separated by spaces (pagerduty://, workflows:// for Teams, "
        "mailto://, json://, and more): notified of escalations, and of everything that can't be "
        "sent to Slack.",
    )

    def to_config(self) -> core.AlertPolicy:
        """What the core reads. Raises `ValueError` that says what contradicts itself."""
        fields = self.model_dump(include=set(core.AlertFields.model_fields))
        urls = self.elsewhere.get_secret_value().split()
        config = core.AlertPolicy(**fields, elsewhere=tuple(SecretStr(url) for url in urls))
        check(config)
        return config

    @classmethod
    def from_config(cls, config: core.AlertPolicy) -> Self:
        """The block that says what `config` says."""
        urls = " ".join(url.get_secret_value() for url in config.elsewhere)
        return cls(**config.model_dump(exclude={"elsewhere"}) | {"elsewhere": SecretStr(urls)})
