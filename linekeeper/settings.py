"""Settings of one process, read from the environment (prefix `LINEKEEPER_`) or a `.env` file.

A secret may be a file instead: `LINEKEEPER_SECRETS_DIR` names a folder whose files are named as the
settings are, in lower case: `linekeeper_encryption_keys`. What the environment says counts before
it.

They say where things are. What an operator tunes lives in blocks (`linekeeper.config`); the
settings below that mirror a block only seed it.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from linekeeper.config import (
    DEFAULT_ENTITIES,
    ForwardForm,
    Paging,
    SinceFilter,
    WebhookScheme,
)
from linekeeper.config.alerts import quiet_times
from linekeeper.config.app import parse_targets
from linekeeper.config.base import (
    A_YEAR_OF_MINUTES,
    require_mail_server,
    require_sender,
    require_web_address,
)
from linekeeper.config.entities import require_entities
from linekeeper.logs import Format

SecretList = Annotated[tuple[SecretStr, ...], NoDecode]
Port = Annotated[int, Field(ge=0, le=65_535)]
"""Of one that is 0 the system chooses a free one."""
TextList = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Everything `LINEKEEPER_…` (INTERFACE "Settings"). Raises `ValidationError` on a bad value."""

    model_config = SettingsConfigDict(env_prefix="LINEKEEPER_", env_file=".env", extra="ignore")

    home: Path = Path(".linekeeper")
    database_url: SecretStr | None = None
    database_pool: int = Field(default=20, ge=4)
    """The most connections a process holds to the database (docs/deploy.md)."""
    encryption_keys: SecretList = ()
    encrypt_bodies: bool = False
    """Whether bodies of records are encrypted at rest; other programs can't read them then."""
    public_url: str | None = None
    internal_url: str | None = None
    """Where Prefect's automations reach the receivers, if not at `public_url`."""
    prefect_host: str = "127.0.0.1"
    prefect_port: int = Field(default=4200, ge=1, le=65_535)
    work_pool: str = Field(default="linekeeper", min_length=1)
    """The pool all runs go through; `deploy` makes it where it is missing."""
    work_pool_type: str = "process"
    """The type of a pool that is made: `process`, `docker`, `kubernetes`, or another type of
    worker."""
    work_pool_template: Path | None = None
    """The base job template of a pool that is made; None: the one of its type."""
    prefix: str = Field(default="", pattern=r"^([a-z][a-z0-9]*(-[a-z0-9]+)*)?$", max_length=30)
    """What the names of our deployments, automations, blocks and variables in Prefect begin with,
    in a workspace that is shared with other flows."""
    receiver_host: str = "127.0.0.1"
    receiver_port: Port = 8642
    sandbox_port: Port = 8643
    max_body_bytes: int = Field(default=1_048_576, ge=1)
    heartbeat_url: str | None = None
    watch_minutes: float = Field(default=15, gt=0, le=A_YEAR_OF_MINUTES)
    canary_minutes: float = Field(default=5, ge=0, le=A_YEAR_OF_MINUTES)
    """How often a canary goes through the public address, where one is set; 0: never."""
    log_format: Format = "text"
    alive_file: Path | None = None
    """Touched every ten seconds by a receiver or consumer that works: for a health check."""
    worker: str = ""
    """Whose vantage a preflight of this machine is; empty: the machine's name."""
    network_file: Path | None = None
    """Makini's addresses and products' ports, in place of those shipped."""

    makini_api_url: str | None = None
    makini_link_url: str | None = None
    makini_client_id: str | None = None
    makini_client_secret: SecretStr | None = None
    makini_webhook_secrets: SecretList = ()
    makini_mode: Literal["observe", "manage"] = "observe"
    makini_entities: TextList = DEFAULT_ENTITIES
    makini_paging: Paging = "page"
    makini_since: SinceFilter = "filter"
    makini_webhook_scheme: WebhookScheme = "makini"
    makini_per_minute: int = Field(default=600, ge=0)
    makini_share: float = Field(default=1.0, gt=0, le=1)
    makini_bodies: TextList = ()
    notify_customers: bool = False
    forward_url: str | None = None
    forward_secret: SecretStr | None = None
    forward_form: ForwardForm = "envelope"
    forward_targets: SecretStr | None = None
    """One a line: `name = https://… secret`."""

    probe_minutes: float = Field(default=10, ge=0, le=A_YEAR_OF_MINUTES)
    quiet_hours: str = ""
    """Seeds the block AlertPolicy: `22:00-07:00`, UTC."""

    slack_bot_token: SecretStr | None = None
    slack_channel: str | None = None
    slack_signing_secret: SecretStr | None = None
    slack_api_url: str | None = None
    slack_app_token: SecretStr | None = None
    """Socket Mode: buttons without a public address."""

    smtp_url: SecretStr | None = None
    mail_from: str | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The usual ones; where files with secrets are is known at run time only."""
        if folder := os.environ.get("LINEKEEPER_SECRETS_DIR"):
            file_secret_settings = SecretsSettingsSource(settings_cls, secrets_dir=folder)
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    @field_validator(
        "encryption_keys",
        "makini_webhook_secrets",
        "makini_entities",
        "makini_bodies",
        mode="before",
    )
    @classmethod
    def _comma_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("makini_entities", "makini_bodies")
    @classmethod
    def _entities(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return require_entities(names)

    @field_validator("database_url", "makini_client_secret", "slack_bot_token", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator(
        "public_url",
        "internal_url",
        "heartbeat_url",
        "forward_url",
        "makini_api_url",
        "makini_link_url",
        "slack_api_url",
    )
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return require_web_address(value) if value else value

    @field_validator("work_pool")
    @classmethod
    def _pool(cls, value: str) -> str:
        if value != value.strip() or any(sign in value for sign in "/%&<>"):
            raise ValueError("Prefect takes no name with /, %, &, < or >, or a space at its ends")
        return value

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str | None) -> str | None:
        if value:
            require_sender(value)
        return value

    @field_validator("network_file", "work_pool_template")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _server(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            require_mail_server(value.get_secret_value())
        return value or None

    @field_validator("forward_targets")
    @classmethod
    def _targets(cls, value: SecretStr | None) -> SecretStr | None:
        parse_targets(value.get_secret_value() if value else "")
        return value

    @field_validator("quiet_hours")
    @classmethod
    def _two_times(cls, value: str) -> str:
        quiet_times(value, "", "UTC")
        return value

    @property
    def resolved_database_url(self) -> str:
        """The store's URL: what was set, or SQLite in `home`."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.home.resolve() / 'linekeeper.db'}"

    @property
    def resolved_public_url(self) -> str:
        """Where customers and Makini reach the receiver, without a trailing slash."""
        url = self.public_url or f"http://{self.receiver_host}:{self.receiver_port}"
        return url.rstrip("/")

    @property
    def local_receiver_url(self) -> str:
        """Where the receiver is, seen from this machine."""
        host = self.receiver_host
        if host in ("0.0.0.0", "::"):  # noqa: S104 - it is asked about, not listened on
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.receiver_port}"
