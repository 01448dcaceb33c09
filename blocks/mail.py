"""The account customers' mail is sent from."""

from typing import ClassVar, Self

from prefect.blocks.core import Block

from linekeeper.config import MailConfig, MailFields


class Mail(MailFields, Block):
    """The account customers' mail is sent from."""

    _block_type_name: ClassVar[str] = "Mail"
    _block_type_slug: ClassVar[str] = "mail"
    _description: ClassVar[str] = (
        "The account from which customers are asked to log in again. Save it as `default`. "
        "Nothing is mailed while an app's `Notify customers` is off."
    )

    def to_config(self) -> MailConfig:
        """What the core reads. Raises `ValueError` naming a bad field."""
        if not self.smtp_url.get_secret_value().startswith(("smtp://", "smtps://")):
            raise ValueError("smtp_url must start with smtp:// or smtps://")
        return MailConfig(smtp_url=self.smtp_url, sender=self.sender)

    @classmethod
    def from_config(cls, config: MailConfig) -> Self:
        """The block that says what `config` says."""
        return cls(smtp_url=config.smtp_url, sender=config.sender)
