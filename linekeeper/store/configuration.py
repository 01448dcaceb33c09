"""The copy of blocks every process reads: encrypted in `app_setting`, else the environment."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, SecretStr, ValidationError
from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

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
from linekeeper.store.types import table_of

_log = logging.getLogger(__name__)
FRESH_SECONDS = 5.0
_KINDS = ("app", "slack", "policy", "alerts", "mail")
_PREFIX = "block:"
_Model = TypeVar("_Model", bound=BaseModel)


class BlockName(NamedTuple):
    """Which block a copy is of."""

    kind: str
    subject: str | None = None
    """The app, or the channel beside the one that everything goes to."""

    def __str__(self) -> str:
        return self.kind if self.subject is None else f"{self.kind}:{self.subject}"


Copies = Sequence[tuple[BlockName, str]]
"""What blocks say as it is stored: which they are, and texts that are encrypted."""
_SETTING = table_of(AppSetting)
_IS_OF_BEFORE = _SETTING.c.kind.is_(None)
"""Rows of before migration 0073, which a process of that version may write while this one takes
over, say in their names alone which block they are of. Once no migration `serves` a schema before
0073 any more, the kind is enough."""
_COPIES = (
    select(_SETTING.c.name, _SETTING.c.kind, _SETTING.c.subject, _SETTING.c.value)
    .where(or_(_SETTING.c.kind.in_(_KINDS), _IS_OF_BEFORE & _SETTING.c.name.startswith(_PREFIX)))
    .order_by(_SETTING.c.name)
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
        return await _read(session)


async def _read(session: AsyncSession) -> Copies:
    return [
        (_of_before(name) if kind is None else BlockName(kind, subject), value)
        for name, kind, subject, value in await session.execute(_COPIES)
    ]


def _of_before(name: str) -> BlockName:
    kind, _, subject = name.removeprefix(_PREFIX).partition(":")
    return BlockName(kind, subject or None)


def configuration_of(
    rows: Copies, decrypt: Callable[[str], str], settings: Settings
) -> Configuration:
    """What the copies say; what no block says comes from the environment.

    One setting that can't be decrypted or is invalid is left out and named in `problems`; the
    others are in force. Of an invalid block the fields that are valid count, and the defaults of
    the rest. Raises `KeyProblem` where not one of several can be decrypted: the keys are others'.
    """
    problems: list[str] = []
    texts: dict[BlockName, str] = {}
    for number, (block, sealed) in enumerate(rows, 1):
        try:
            texts[block] = decrypt(sealed)
        except KeyProblem as problem:
            if 1 < len(rows) == number and not texts:
                raise
            problems.append(f"The settings {str(block)!r} can't be used: {problem}.")
    # An app that can't be read is none: it may be set otherwise by now, such as only to observe.
    has_apps = any(block.kind == "app" for block, _ in rows)
    return Configuration(
        apps=_copies(AppConfig, "app", texts, problems) if has_apps else _seed_apps(settings),
        slack=_copy(SlackConfig, BlockName("slack"), texts, problems) or _seed_slack(settings),
        slack_channels=_copies(SlackConfig, "slack", texts, problems),
        policy=_copy(HealthPolicy, BlockName("policy"), texts, problems)
        or HealthPolicy(probe_minutes=settings.probe_minutes),
        alerts=_copy(AlertPolicy, BlockName("alerts"), texts, problems)
        or AlertPolicy(quiet_hours=settings.quiet_hours),
        mail=_copy(MailConfig, BlockName("mail"), texts, problems) or _seed_mail(settings),
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


async def health_policy(store: Store, session: AsyncSession) -> HealthPolicy:
    """The copy of the health policy, in the caller's transaction; the defaults where none is."""
    for block, sealed in await _read(session):
        if block.kind == "policy" and (text := _opened(store, sealed)) is not None:
            return _copy(HealthPolicy, block, {block: text}, []) or HealthPolicy()
    return HealthPolicy()


async def configured_apps(session: AsyncSession) -> set[str]:
    """The names of the apps in the copy, also of those whose settings can't be read."""
    blocks = (block for block, _ in await _read(session))
    return {block.subject for block in blocks if block.kind == "app" and block.subject}


async def save_blocks(store: Store, blocks: Blocks, *, now: datetime) -> bool:
    """Replace the copy by `blocks`; returns whether anything was different."""
    wanted: dict[BlockName, BaseModel] = {BlockName("app", app.name): app for app in blocks.apps}
    wanted |= {BlockName("slack", name): channel for name, channel in blocks.slack_channels.items()}
    for kind, model in (
        ("slack", blocks.slack),
        ("policy", blocks.policy),
        ("alerts", blocks.alerts),
        ("mail", blocks.mail),
    ):
        if model is not None:
            wanted[BlockName(kind)] = model
    texts = {block: _plain(model) for block, model in wanted.items()}
    saved = {block: _opened(store, sealed) for block, sealed in await read_copies(store)}
    if saved == texts:
        return False
    async with store.write() as session:
        gone = sorted(f"{_PREFIX}{block}" for block in saved.keys() - texts.keys())
        if gone:
            await session.execute(delete(AppSetting).where(col(AppSetting.name).in_(gone)))
        changed = [
            {
                "name": f"{_PREFIX}{block}",
                **block._asdict(),
                "value": store.cipher.encrypt(text),
                "updated_at": now,
            }
            for block, text in texts.items()
            if saved.get(block) != text
        ]
        if changed:
            update = ["kind", "subject", "value", "updated_at"]
            await insert_or_update(store, session, AppSetting, changed, key=["name"], update=update)
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
    model: type[_Model], kind: str, texts: Mapping[BlockName, str], problems: list[str]
) -> dict[str, _Model]:
    """Those of one kind by what they are called."""
    subjects = sorted(block.subject for block in texts if block.kind == kind and block.subject)
    copies = {
        subject: _copy(model, BlockName(kind, subject), texts, problems) for subject in subjects
    }
    return {subject: copy for subject, copy in copies.items() if copy is not None}


def _copy(
    model: type[_Model], block: BlockName, texts: Mapping[BlockName, str], problems: list[str]
) -> _Model | None:
    """The settings of `block`, without the fields that are invalid, which are named."""
    if block not in texts:
        return None
    try:
        return model.model_validate_json(texts[block])
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
            for field, value in orjson.loads(texts[block]).items()
            if field not in invalid
        }
        rest = model.model_validate(valid)
        problems.append(f"The settings {str(block)!r} hold {said}; the default counts.")
        return rest
    problems.append(f"The settings {str(block)!r} can't be used: {said}.")
    return None
