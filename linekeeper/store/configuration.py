"""The copy of blocks every process reads: encrypted in `app_setting`, else the environment."""

from datetime import datetime
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, SecretStr, ValidationError
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.config import (
    AlertPolicy,
    AppConfig,
    Configuration,
    HealthPolicy,
    MailConfig,
    SlackConfig,
)
from linekeeper.orchestrator import Blocks
from linekeeper.settings import Settings
from linekeeper.store.engine import Store
from linekeeper.store.tables import AppSetting
from linekeeper.store.upsert import insert_or_update

_PREFIX = "block:"
_Model = TypeVar("_Model", bound=BaseModel)


async def load_configuration(store: Store, settings: Settings) -> Configuration:
    """The blocks' last copy; what no block says comes from the environment.

    Raises `KeyProblem` if the copy can't be decrypted.
    """
    async with store.read() as session:
        rows = await session.scalars(
            select(AppSetting).where(col(AppSetting.name).startswith(_PREFIX))
        )
        texts = {row.name.removeprefix(_PREFIX): store.cipher.decrypt(row.value) for row in rows}
    apps = {
        name.removeprefix("app:"): AppConfig.model_validate_json(text)
        for name, text in texts.items()
        if name.startswith("app:")
    }
    if not apps and settings.seed_app is not None:
        apps = {settings.seed_app.name: settings.seed_app}
    return Configuration(
        apps=apps,
        slack=_copy(SlackConfig, texts.get("slack")) or settings.seed_slack,
        policy=_copy(HealthPolicy, texts.get("policy")) or settings.seed_policy,
        alerts=_copy(AlertPolicy, texts.get("alerts")) or settings.seed_alerts,
        mail=_copy(MailConfig, texts.get("mail")) or settings.seed_mail,
    )


async def configured_apps(session: AsyncSession) -> set[str]:
    """The names of the apps in the copy, also of those whose settings can't be read."""
    prefix = f"{_PREFIX}app:"
    names = await session.scalars(
        select(AppSetting.name).where(col(AppSetting.name).startswith(prefix))
    )
    return {name.removeprefix(prefix) for name in names}


async def save_blocks(store: Store, blocks: Blocks, *, now: datetime) -> bool:
    """Replace the copy by `blocks`; returns whether anything was different."""
    wanted: dict[str, BaseModel] = {f"app:{app.name}": app for app in blocks.apps}
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
        rows = await session.scalars(
            select(AppSetting).where(col(AppSetting.name).startswith(_PREFIX))
        )
        found = {row.name: store.cipher.decrypt(row.value) for row in rows}
    if found == texts:
        return False
    async with store.write() as session:
        gone = sorted(found.keys() - texts.keys())
        if gone:
            await session.execute(delete(AppSetting).where(col(AppSetting.name).in_(gone)))
        changed = [
            {"name": name, "value": store.cipher.encrypt(text), "updated_at": now}
            for name, text in texts.items()
            if found.get(name) != text
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


def _copy(kind: type[_Model], text: str | None) -> _Model | None:
    if text is None:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        return None  # written by another version; the next copy of the blocks mends it
