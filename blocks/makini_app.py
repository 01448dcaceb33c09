"""One Makini account or self-hosted instance; the block's name is the app's name."""

from typing import ClassVar, Literal, Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.text import comma_list, pairs
from linekeeper.config import DEFAULT_ENTITIES, AppConfig


class MakiniApp(Block):
    """One Makini account, or one self-hosted Makini."""

    _block_type_name: ClassVar[str] = "Makini App"
    _block_type_slug: ClassVar[str] = "makini-app"
    _description: ClassVar[str] = (
        "One Makini account or self-hosted Makini. The block's name is the app's name: webhooks "
        "for it go to /webhooks/<name>. Saved changes reach every part within 60 seconds; run "
        "`doctor` to test them."
    )

    mode: Literal["observe", "manage"] = Field(
        default="observe",
        title="Mode",
        description="observe: only lists and status calls, nothing at Makini is changed. "
        "manage: tokens are minted and refreshed, connections reconnected.",
    )
    api_url: str = Field(
        default="https://api.makini.io",
        title="API URL",
        description="Base URL of Makini's API; a self-hosted Makini has its own.",
    )
    link_url: str = Field(
        default="https://link.makini.io",
        title="Link URL",
        description="Base URL of Makini Link, where customers log in.",
    )
    client_id: str = Field(
        default="", title="Client id", description="From Makini's dashboard: API keys."
    )
    client_secret: SecretStr = Field(
        default=SecretStr(""),
        title="Client secret",
        description="From Makini's dashboard, shown there once.",
    )
    webhook_secrets: SecretStr = Field(
        default=SecretStr(""),
        title="Webhook secrets",
        description="Secrets that sign Makini's webhooks, separated by commas. All are accepted, "
        "so that a new one can be added before the old one goes.",
    )
    notify_customers: bool = Field(
        default=False,
        title="Notify customers",
        description="Whether customers are mailed when they have to log in again.",
    )
    forward_url: SecretStr = Field(
        default=SecretStr(""),
        title="Forward URL",
        description="Where your product receives every webhook and every recovered change; "
        "empty: nowhere. Kept as a secret, as it may carry a token.",
    )
    forward_secret: SecretStr = Field(
        default=SecretStr(""),
        title="Forward secret",
        description="Signs what is forwarded (Standard Webhooks).",
    )
    forward_form: Literal["envelope", "original"] = Field(
        default="envelope",
        title="Forward form",
        description="envelope: ours, signed with the forward secret. original: Makini's body and "
        "headers, byte for byte, so that your present receiver goes on working.",
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
    per_minute: int = Field(
        default=600,
        ge=0,
        title="Calls a minute",
        description="What Makini allows the account; 0: no limit.",
    )
    share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        title="Share of the calls",
        description="Linekeeper's part of the calls a minute, such as 0.25; your product has the "
        "rest.",
    )
    timeout_seconds: float = Field(
        default=15.0, gt=0, title="Time-out (seconds)", description="Of one call to Makini."
    )
    per_page: int = Field(
        default=100, ge=1, le=500, title="Page size", description="Entries a page of a listing."
    )
    paging: Literal["page", "cursor"] = Field(
        default="page",
        title="Paging",
        description="What is asked for first on every listing. With cursor an answer that says "
        "nothing of a next page is the last.",
    )
    since: Literal["filter", "modified_after"] = Field(
        default="filter",
        title="Changed-since parameter",
        description="How a listing is narrowed to what changed: filter[updatedAt:gteq], or "
        "modified_after.",
    )
    connection_field: Literal["key", "id"] = Field(
        default="key",
        title="Connection field",
        description="Which field of a listed connection the Admin API's routes take.",
    )
    webhook_scheme: Literal["makini", "standard"] = Field(
        default="makini",
        title="Webhook signature",
        description="makini: X-Webhook-Signature. standard: Standard Webhooks.",
    )
    webhook_reserialized: bool = Field(
        default=False,
        title="Accept re-serialised bodies",
        description="Accept a signature over the compact re-serialised JSON too.",
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
        description="What connections cost where nobody says it: provider = tier hosting, such as "
        " SAP ECC = III on-premises; separated by commas.",
    )
    natural_keys: str = Field(
        default="",
        title="Natural keys",
        description="Fields that tell an entity's records apart whatever their key, where "
        "Linekeeper's own table doesn't fit, as entity = fields, one a line: "
        "eam/assets = serialNumber + name + siteKey",
    )
    state_required: bool = Field(
        default=True,
        title="Require state",
        description="Refuse an OAuth callback without the state we sent. Off, for a Makini that "
        "doesn't give it back: the link is told by a cookie in the customer's browser instead.",
    )

    def to_config(self, name: str) -> AppConfig:
        """What the core reads, for the app `name`. Raises `ValueError` naming a bad field."""
        return AppConfig(
            name=name,
            mode=self.mode,
            api_url=self.api_url,
            link_url=self.link_url,
            client_id=self.client_id,
            client_secret=self.client_secret,
            connection_field=self.connection_field,
            per_page=self.per_page,
            paging=self.paging,
            since=self.since,
            per_minute=self.per_minute,
            share=self.share,
            timeout_seconds=self.timeout_seconds,
            entities=comma_list(self.entities),
            bodies=comma_list(self.bodies),
            webhook_secrets=tuple(
                SecretStr(secret) for secret in comma_list(self.webhook_secrets.get_secret_value())
            ),
            webhook_scheme=self.webhook_scheme,
            webhook_reserialized=self.webhook_reserialized,
            event_kinds=pairs(self.event_kinds),
            natural_keys=pairs(self.natural_keys),
            tariffs=pairs(self.tariffs),
            state_required=self.state_required,
            notify_customers=self.notify_customers,
            forward_url=self.forward_url.get_secret_value() or None,
            forward_secret=self.forward_secret,
            forward_form=self.forward_form,
        )

    @classmethod
    def from_config(cls, config: AppConfig) -> Self:
        """The block that says what `config` says; save it under `config.name`."""
        return cls(
            **config.model_dump(
                exclude={
                    "name",
                    "entities",
                    "bodies",
                    "webhook_secrets",
                    "event_kinds",
                    "natural_keys",
                    "tariffs",
                }
            )
            | {
                "entities": ", ".join(config.entities),
                "bodies": ", ".join(config.bodies),
                "webhook_secrets": SecretStr(
                    ", ".join(secret.get_secret_value() for secret in config.webhook_secrets)
                ),
                "event_kinds": "\n".join(f"{k} = {v}" for k, v in config.event_kinds.items()),
                "natural_keys": "\n".join(f"{k} = {v}" for k, v in config.natural_keys.items()),
                "tariffs": "\n".join(f"{k} = {v}" for k, v in config.tariffs.items()),
                "forward_url": SecretStr(config.forward_url or ""),
            }
        )
