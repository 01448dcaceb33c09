"""One Makini account or self-hosted instance; the block's name is the app's name."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.text import comma_list, pairs
from linekeeper.config import DEFAULT_ENTITIES, AppConfig, AppFields
from linekeeper.config.app import parse_targets, targets_text
from linekeeper.config.entities import require_entities


class MakiniApp(AppFields, Block):
    """One Makini account, or one self-hosted Makini."""

    _block_type_name: ClassVar[str] = "Makini App"
    _block_type_slug: ClassVar[str] = "makini-app"
    _description: ClassVar[str] = (
        "One Makini account or self-hosted Makini. The block's name is the app's name: webhooks "
        "for it go to /webhooks/<name>. Saved changes reach every part within 60 seconds; run "
        "`doctor` to test them."
    )

    webhook_secrets: SecretStr = Field(
        default=SecretStr(""),
        title="Webhook secrets",
        description="Secrets that sign Makini's webhooks, separated by commas. All are accepted, "
        "so that a new one can be added before the old one goes.",
    )
    forward_url: SecretStr = Field(
        default=SecretStr(""),
        title="Forward URL",
        description="Where your product receives every webhook and every backfilled change; "
        "empty: nowhere. Kept as a secret, as it may carry a token.",
    )
    forward_targets: SecretStr = Field(
        default=SecretStr(""),
        title="Forward targets",
        description="Other addresses, for connections that `workflow-configuration` sends there; "
        "one a line: name = https://… secret, and `original` for Makini's own form.",
    )
    entities: str = Field(
        default=", ".join(DEFAULT_ENTITIES),
        title="Entities",
        description="Entities reconciled, separated by commas, such as eam/assets. What a system "
        "doesn't offer is skipped.",
    )
    bodies: str = Field(
        default="",
        title="Entities kept in full",
        description="Entities whose record bodies are kept, separated by commas; of the others "
        "only key, time and hash are kept.",
    )
    event_kinds: str = Field(
        default="",
        title="Event names",
        description="Webhook event names Linekeeper doesn't know, as pattern = kind, separated "
        "by commas or lines: connection.revoked* = connection.auth_required",
    )
    tariffs: str = Field(
        default="",
        title="Tier and hosting by provider",
        description="What connections cost where tier and hosting are not set: provider = tier "
        "hosting, such as SAP ECC = III on-premises; separated by commas.",
    )
    natural_keys: str = Field(
        default="",
        title="Natural keys",
        description="Fields that tell an entity's records apart whatever their key, where "
        "Linekeeper's own table doesn't fit, as entity = fields, one a line: "
        "eam/assets = serialNumber + name + siteKey",
    )

    def to_config(self, name: str) -> AppConfig:
        """What the core reads, for the app `name`. Raises `ValueError` naming a bad field."""
        secrets = comma_list(self.webhook_secrets.get_secret_value())
        natural_keys = pairs(self.natural_keys)
        _entities("natural_keys", natural_keys)
        return AppConfig(
            **self.model_dump(include=set(AppFields.model_fields)),
            name=name,
            entities=_entities("entities", comma_list(self.entities)),
            bodies=_entities("bodies", comma_list(self.bodies)),
            webhook_secrets=tuple(SecretStr(secret) for secret in secrets),
            event_kinds=pairs(self.event_kinds),
            natural_keys=natural_keys,
            tariffs=pairs(self.tariffs),
            forward_url=self.forward_url.get_secret_value() or None,
            forward_targets=parse_targets(self.forward_targets.get_secret_value()),
        )

    @classmethod
    def from_config(cls, config: AppConfig) -> Self:
        """The block that says what `config` says; save it under `config.name`."""
        secrets = ", ".join(secret.get_secret_value() for secret in config.webhook_secrets)
        return cls(
            **config.model_dump(include=set(AppFields.model_fields)),
            entities=", ".join(config.entities),
            bodies=", ".join(config.bodies),
            webhook_secrets=SecretStr(secrets),
            event_kinds=_lines(config.event_kinds),
            natural_keys=_lines(config.natural_keys),
            tariffs=_lines(config.tariffs),
            forward_url=SecretStr(config.forward_url or ""),
            forward_targets=SecretStr(targets_text(config.forward_targets)),
        )


def _entities(field: str, names: Iterable[str]) -> tuple[str, ...]:
    try:
        return require_entities(names)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _lines(entries: Mapping[str, str]) -> str:
    return "\n".join(f"{name} = {value}" for name, value in entries.items())
