"""The copy of blocks every process reads: encrypted in `app_setting`, else the environment."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, SecretStr, ValidationError
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.clock import monotonic
from linekeeper.config import (
    AlertPolicy,
    AppConfig,
    Configuration,
    HealthPolicy,
    MailConfig,
    SlackConfig,
)
from linekeeper.config.app import parse_targets
from linekeeper.orchestrator import Blocks
from linekeeper.settings import Settings
from linekeeper.store.cipher import KeyProblem
from linekeeper.store.engine import Store, insert_or_update
from linekeeper.store.tables import AppSetting

_log = logging.getLogger(__name__)
FRESH_SECONDS = 5.0
_PREFIX = "block:"
_CHANNEL = "slack:"
_Model = TypeVar("_Model", bound=BaseModel)


Copies = Sequence[tuple[str, str]]
"""What blocks say as it is stored: names, and texts that are encrypted."""
_COPIES = (
    select(AppSetting.name, AppSetting.value)
    .where(col(AppSetting.name).startswith(_PREFIX))
    .order_by(col(AppSetting.name))
)


async def load_configuration(store: Store, settings: Settings) -> Configuration:
    """The blocks' last copy, read (`configuration_of`)."""
    return configuration_of(await read_copies(store), store.cipher.decrypt, settings)


class SharedConfiguration:
    """What operators set, at most `FRESH_SECONDS` old; read once for all who ask in a process."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._known: Configuration | None = None
        self._copies: Copies = ()
        """What `_known` was read from."""
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def read(self) -> Configuration:
        """The configuration; a new problem in it is logged once."""
        if (known := self._fresh()) is not None:
            return known
        async with self._reading:
            if (known := self._fresh()) is not None:
                return known  # somebody else has read it meanwhile
            now, copies = monotonic(), await read_copies(self._store)
            configuration = before = self._known
            if configuration is None or copies != self._copies:
                configuration = configuration_of(copies, self._store.cipher.decrypt, self._settings)
                for problem in configuration.problems:
                    if before is None or problem not in before.problems:
                        _log.warning("%s", problem)
            self._known, self._copies, self._read_at = configuration, copies, now
            return configuration

    def _fresh(self) -> Configuration | None:
        return self._known if monotonic() - self._read_at <= FRESH_SECONDS else None


async def read_copies(store: Store) -> Copies:
    """The blocks' last copy as it is stored: the same as before where nothing was changed."""
    async with store.read() as session:
        return [(row[0], row[1]) for row in await session.execute(_COPIES)]


def configuration_of(
    rows: Copies, decrypt: Callable[[str], str], settings: Settings
) -> Configuration:
    """What the copies say; what no block says comes from the environment.

    One setting that can't be decrypted or is invalid is left out and named in `problems`; the
    others are in force. Of an invalid block the fields that are valid count, and the defaults of
    the rest. Raises `KeyProblem` where not one of several can be decrypted: the keys are others'.
    """
    problems: list[str] = []
    texts: dict[str, str] = {}
    for number, (stored, sealed) in enumerate(rows, 1):
        name = stored.removeprefix(_PREFIX)
        try:
            texts[name] = decrypt(sealed)
        except KeyProblem as problem:
            if 1 < len(rows) == number and not texts:
                raise
            problems.append(f"The settings {name!r} can't be used: {problem}.")
    return Configuration(
        apps=_copies(AppConfig, "app:", texts, problems) or _seed_apps(settings),
        slack=_copy(SlackConfig, "slack", texts, problems) or _seed_slack(settings),
        slack_channels=_copies(SlackConfig, _CHANNEL, texts, problems),
        policy=_copy(HealthPolicy, "policy", texts, problems)
        or HealthPolicy(probe_minutes=settings.probe_minutes),
        alerts=_copy(AlertPolicy, "alerts", texts, problems)
        or AlertPolicy(quiet_hours=settings.quiet_hours),
        mail=_copy(MailConfig, "mail", texts, problems) or _seed_mail(settings),
        problems=tuple(problems),
    )


def seed(settings: Settings) -> Configuration:
    """What the environment says, where there is no block."""
    return configuration_of((), str, settings)


def _seed_apps(settings: Settings) -> dict[str, AppConfig]:
    """The app `default`; none while no Makini is configured."""
    if settings.makini_api_url is None and settings.makini_client_id is None:
        return {}
    targets = settings.forward_targets
    given: dict[str, Any] = {
        "api_url": settings.makini_api_url,
        "link_url": settings.makini_link_url,
        "client_id": settings.makini_client_id,
        "client_secret": settings.makini_client_secret,
        "forward_secret": settings.forward_secret,
    }
    app = AppConfig(
        mode=settings.makini_mode,
        webhook_secrets=settings.makini_webhook_secrets,
        webhook_scheme=settings.makini_webhook_scheme,
        entities=settings.makini_entities,
        bodies=settings.makini_bodies,
        paging=settings.makini_paging,
        since=settings.makini_since,
        per_minute=settings.makini_per_minute,
        share=settings.makini_share,
        notify_customers=settings.notify_customers,
        forward_url=settings.forward_url,
        forward_form=settings.forward_form,
        forward_targets=parse_targets(targets.get_secret_value()) if targets else {},
        **_given(given),
    )
    return {app.name: app}


def _seed_slack(settings: Settings) -> SlackConfig | None:
    if settings.slack_bot_token is None or not settings.slack_channel:
        return None
    given: dict[str, Any] = {
        "signing_secret": settings.slack_signing_secret,
        "app_token": settings.slack_app_token,
        "api_url": settings.slack_api_url,
    }
    token, channel = settings.slack_bot_token, settings.slack_channel
    return SlackConfig(bot_token=token, channel=channel, **_given(given))


def _seed_mail(settings: Settings) -> MailConfig | None:
    if settings.smtp_url is None:
        return None
    return MailConfig(
        smtp_url=settings.smtp_url, sender=settings.mail_from or "linekeeper@localhost"
    )


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are set: the defaults of others are said once, with their fields."""
    return {name: value for name, value in values.items() if value}


async def configured_apps(session: AsyncSession) -> set[str]:
    """The names of the apps in the copy, also of those whose settings can't be read."""
    prefix = f"{_PREFIX}app:"
    names = await session.scalars(
        select(AppSetting.name).where(col(AppSetting.name).startswith(prefix))
    )
    return {name.removeprefix(prefix) for name in names}


_BLOCKS = select(col(AppSetting.name), col(AppSetting.value)).where(
    col(AppSetting.name).startswith(_PREFIX)
)


async def save_blocks(store: Store, blocks: Blocks, *, now: datetime) -> bool:
    """Replace the copy by `blocks`; returns whether anything was different."""
    wanted: dict[str, BaseModel] = {f"app:{app.name}": app for app in blocks.apps}
    wanted |= {f"{_CHANNEL}{name}": channel for name, channel in blocks.slack_channels.items()}
    for name, model in (
        ("slack", blocks.slack),
        ("policy", blocks.policy),
        ("alerts", blocks.alerts),
        ("mail", blocks.mail),
    ):
        if model is not None:
            wanted[name] = model
    texts = {_PREFIX + name: _plain(model) for name, model in wanted.items()}
    async with store.read() as session:
        rows = await session.execute(_BLOCKS)
        saved = {name: _opened(store, value) for name, value in rows}
    if saved == texts:
        return False
    async with store.write() as session:
        gone = sorted(saved.keys() - texts.keys())
        if gone:
            await session.execute(delete(AppSetting).where(col(AppSetting.name).in_(gone)))
        changed = [
            {"name": name, "value": store.cipher.encrypt(text), "updated_at": now}
            for name, text in texts.items()
            if saved.get(name) != text
        ]
        if changed:
            await insert_or_update(
                store, session, AppSetting, changed, key=["name"], update=["value", "updated_at"]
            )
    return True


def _plain(model: BaseModel) -> str:
    def reveal(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        raise TypeError(type(value).__name__)

    return orjson.dumps(model.model_dump(), default=reveal, option=orjson.OPT_SORT_KEYS).decode()


def _opened(store: Store, sealed: str) -> str | None:
    """The text of a copy; None where no key opens it: then it is written anew."""
    try:
        return store.cipher.decrypt(sealed)
    except KeyProblem:
        return None


def _copies(
    model: type[_Model], prefix: str, texts: Mapping[str, str], problems: list[str]
) -> dict[str, _Model]:
    """Those of one kind by what they are called."""
    names = sorted(name for name in texts if name.startswith(prefix))
    copies = {name: _copy(model, name, texts, problems) for name in names}
    return {name.removeprefix(prefix): copy for name, copy in copies.items() if copy is not None}


def _copy(
    kind: type[_Model], name: str, texts: Mapping[str, str], problems: list[str]
) -> _Model | None:
    """The settings `name`, without the fields that are invalid, which are named."""
    if name not in texts:
        return None
    try:
        return kind.model_validate_json(texts[name])
    except ValidationError as error:
        invalid = sorted(
            {
                str(error_details["loc"][0])
                for error_details in error.errors()
                if error_details["loc"]
            }
        )
    said = f"{', '.join(invalid) or 'its content'}: not valid"
    with suppress(ValidationError, orjson.JSONDecodeError, AttributeError):
        valid = {
            field: value
            for field, value in orjson.loads(texts[name]).items()
            if field not in invalid
        }
        rest = kind.model_validate(valid)
        problems.append(f"The settings {name!r} hold {said}; the default counts.")
        return rest
    problems.append(f"The settings {name!r} can't be used: {said}.")
    return None
