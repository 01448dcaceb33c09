"""One Makini app as its operator sets it, and where its webhooks are forwarded to.

Every unknown of MAKINI.md is a field here.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from linekeeper.config.base import (
    AN_HOUR_OF_SECONDS,
    SLUG,
    Config,
    Fields,
    ForwardForm,
    require_web_address,
)

_FORMS: tuple[ForwardForm, ...] = ("envelope", "original")


class ForwardTarget(Config):
    """An address of the product, and what signs what is sent there."""

    url: SecretStr
    secret: SecretStr = SecretStr("")
    form: ForwardForm = "envelope"


def parse_targets(text: str) -> dict[str, ForwardTarget]:
    """Targets, one a line: `name = https://… secret form`, the last two optional.

    Raises `ValueError` for a line that is none, without showing what may be a secret.
    """
    targets: dict[str, ForwardTarget] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, rest = (part.strip() for part in line.partition("="))
        url, *options = rest.split() or [""]
        form = next((form for form in _FORMS if options[-1:] == [form]), None)
        secret = options[: -1 if form else None]
        if not SLUG.fullmatch(name) or name in targets:
            raise ValueError(f"line {number}: a target needs a name of its own, such as crm")
        if not url.startswith(("http://", "https://")) or len(secret) > 1:
            raise ValueError(f"line {number}: write {name} = https://… secret")
        targets[name] = ForwardTarget(
            url=SecretStr(url),
            secret=SecretStr("".join(secret)),
            form=form or "envelope",
        )
    return targets


def targets_text(targets: Mapping[str, ForwardTarget]) -> str:
    """The text that `parse_targets` reads."""
    return "\n".join(
        " ".join(
            part
            for part in (
                f"{name} = {target.url.get_secret_value()}",
                target.secret.get_secret_value(),
                target.form,
            )
            if part
        )
        for name, target in targets.items()
    )


Mode = Literal["observe", "manage"]
Paging = Literal["page", "cursor"]
SinceFilter = Literal["filter", "modified_after"]
WebhookScheme = Literal["makini", "standard"]

DEFAULT_ENTITIES = ("eam/work-orders", "eam/assets", "eam/sites", "erp/purchase-orders")


class AppFields(Fields):
    """What is the same in the core and in the block's form: plain values, no lists."""

    mode: Mode = Field(
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
    notify_customers: bool = Field(
        default=False,
        title="Notify customers",
        description="Whether customers are mailed when they have to log in again.",
    )
    forward_secret: SecretStr = Field(
        default=SecretStr(""),
        title="Forward secret",
        description="Signs what is forwarded (Standard Webhooks).",
    )
    forward_form: ForwardForm = Field(
        default="envelope",
        title="Forward form",
        description="envelope: ours, signed with the forward secret. original: Makini's body and "
        "headers, byte for byte, so that your present receiver goes on working.",
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
        default=15.0,
        gt=0,
        le=AN_HOUR_OF_SECONDS,
        title="Time-out (seconds)",
        description="The deadline of one call to Makini.",
    )
    per_page: int = Field(
        default=100,
        ge=1,
        le=500,
        title="Page size",
        description="How many entries a page of a listing has.",
    )
    paging: Paging = Field(
        default="page",
        title="Paging",
        description=(
            "The style that is asked for first on every listing. With cursor, an answer that "
            "names no next page is the last."
        ),
    )
    since: SinceFilter = Field(
        default="filter",
        title="Changed-since parameter",
        description="The parameter that narrows a listing to what changed: "
        "filter[updatedAt:gteq], or modified_after.",
    )
    connection_field: Literal["key", "id"] = Field(
        default="key",
        title="Connection field",
        description="Which field of a listed connection the Admin API's routes take.",
    )
    webhook_scheme: WebhookScheme = Field(
        default="makini",
        title="Webhook signature",
        description="makini: X-Webhook-Signature. standard: Standard Webhooks.",
    )
    webhook_reserialized: bool = Field(
        default=False,
        title="Accept re-serialised bodies",
        description="Accept a signature over the compact re-serialised JSON too.",
    )
    state_required: bool = Field(
        default=True,
        title="Require state",
        description="Refuse an OAuth callback without the state we sent. Off, for a Makini that "
        "doesn't give it back: a cookie in the customer's browser says which link it was.",
    )


class AppConfig(Config, AppFields):
    """One Makini account or self-hosted instance."""

    name: str = "default"
    entities: tuple[str, ...] = DEFAULT_ENTITIES
    bodies: tuple[str, ...] = ()
    webhook_secrets: tuple[SecretStr, ...] = ()
    event_kinds: dict[str, str] = Field(default_factory=dict)
    """Event name pattern (`fnmatch`) → our kind; asked before the built-in table."""
    natural_keys: dict[str, str] = Field(default_factory=dict)
    """Entity → the fields that tell its records apart, joined by `+`; asked before the built-in
    table (reconcile.identity)."""
    tariffs: dict[str, str] = Field(default_factory=dict)
    """Provider → tier and hosting of its connections, such as `III on-premises`, where neither
    Makini's list nor a person says it; asked before the built-in table (credits.tariff)."""
    forward_url: str | None = None
    forward_targets: dict[str, ForwardTarget] = Field(default_factory=dict)
    """Where single connections are forwarded to instead, by the name of the target."""
    forward_to: str | None = None
    """The target that one connection was configured to, in the app as it holds for it."""

    @field_validator("name")
    @classmethod
    def _name_is_a_slug(cls, value: str) -> str:
        if not SLUG.fullmatch(value):
            raise ValueError("an app's name has letters, digits, - and _ only")
        return value

    @field_validator("tariffs")
    @classmethod
    def _tariffs_are_known(cls, value: dict[str, str]) -> dict[str, str]:
        known = {"i", "ii", "iii", "cloud", "on-premises", "self-hosted"}
        for provider, text in value.items():
            if odd := [word for word in text.split() if word.lower() not in known]:
                raise ValueError(f"{provider}: {odd[0]} is no tier (I, II, III) and no hosting")
        return value

    @field_validator("api_url", "link_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("give a URL that starts with https:// (or http://)")
        return value.rstrip("/")

    @field_validator("forward_url")
    @classmethod
    def _product(cls, value: str | None) -> str | None:
        return require_web_address(value) if value else value

    @property
    def calls_a_minute(self) -> int:
        """Our own budget, all processes together; 0 = no limit."""
        return max(1, int(self.per_minute * self.share)) if self.per_minute else 0

    def ref_of(self, makini_key: str, makini_id: str | None) -> str:
        """What Makini's routes call a connection: the listed field `connection_field` names."""
        return (makini_id if self.connection_field == "id" else None) or makini_key

    @property
    def manages(self) -> bool:
        """Whether anything at Makini may be changed (DESIGN "Do no harm")."""
        return self.mode == "manage"

    @property
    def writes_to_customers(self) -> bool:
        """Whether we notify customers of anything."""
        return self.manages and self.notify_customers

    @property
    def destination(self) -> str:
        """The name of where a connection's webhooks are forwarded to: the app, or its target."""
        return f"{self.name}@{self.forward_to}" if self.forward_to else self.name

    def destinations(self) -> dict[str, "AppConfig"]:
        """The app as it is at each address it forwards to, by the name of the destination."""
        targets = {self.name: self} if self.forward_url else {}
        for name, target in self.forward_targets.items():
            to = self.model_copy(
                update={
                    "forward_to": name,
                    "forward_url": target.url.get_secret_value(),
                    "forward_secret": target.secret,
                    "forward_form": target.form,
                }
            )
            targets[to.destination] = to
        return targets

    @property
    def keeps_headers(self) -> bool:
        """Whether Makini's own headers are handed on anywhere."""
        return any(each.forward_form == "original" for each in self.destinations().values())

    def as_chosen(self, mode: str | None, notify_customers: bool | None) -> "AppConfig":
        """The app as it holds for a connection of which rules say this; None: they say nothing."""
        mode = self.mode if mode is None else mode
        notify = self.notify_customers if notify_customers is None else notify_customers
        if mode == self.mode and notify == self.notify_customers:
            return self
        return self.model_copy(update={"mode": mode, "notify_customers": notify})

    def is_called_like(self, other: "AppConfig") -> bool:
        """Whether Makini is called the same way for both: at most they differ in what is read,
        in whether anything may be changed and in who is notified."""
        if self is other or self == other:
            return True
        differing = ("entities", "bodies", "forward_to", "mode", "notify_customers")
        return self.model_copy(update={name: getattr(other, name) for name in differing}) == other
