"""The block documents on a Prefect server: read into what the core takes, seeded from settings."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import SecretStr, ValidationError

from blocks import AlertPolicy, HealthPolicy, Mail, MakiniApp, SlackChannel
from linekeeper.config import AppConfig, Configuration, SlackConfig
from linekeeper.consumer.settings import BrokenBlocks
from linekeeper.notify.routing import channels_of
from linekeeper.orchestrator import Blocks
from linekeeper.settings import Settings
from linekeeper.store.configuration import seed as seeded
from tasks.prefect_adapter.names import called, document_name

BLOCKS: tuple[type[Block], ...] = (MakiniApp, SlackChannel, HealthPolicy, AlertPolicy, Mail)
DEFAULT = "default"
"""The document that is read, of a type that is there once."""

_Config = TypeVar("_Config")


async def read(client: PrefectClient) -> Blocks:
    """What the documents say now. Raises `BrokenBlocks` if some don't make sense.

    Errors of Prefect's client pass through.
    """
    apps = await _documents(client, MakiniApp)
    channels = await _documents(client, SlackChannel)
    slack = channels.pop(DEFAULT, None)
    policy = (await _documents(client, HealthPolicy)).get(DEFAULT)
    alerts = (await _documents(client, AlertPolicy)).get(DEFAULT)
    mail = (await _documents(client, Mail)).get(DEFAULT)
    broken: dict[str, str] = {}

    def checked(
        key: str, kind: type[Block], name: str, make: Callable[[], _Config]
    ) -> _Config | None:
        try:
            return make()
        except ValueError as error:
            broken[key] = f"block {kind.get_block_type_slug()}/{name}: {_reason(error)}"
            return None

    configs = [
        checked(f"app:{name}", MakiniApp, name, partial(_app, name, data))
        for name, data in sorted(apps.items())
    ]
    good = Blocks(
        apps=[config for config in configs if config is not None],
        slack=None
        if slack is None
        else checked("slack", SlackChannel, DEFAULT, partial(_channel, slack)),
        slack_channels={
            name: config
            for name, data in sorted(channels.items())
            if (config := checked(f"slack:{name}", SlackChannel, name, partial(_channel, data)))
        },
        policy=None
        if policy is None
        else checked("policy", HealthPolicy, DEFAULT, lambda: HealthPolicy(**policy).to_config()),
        alerts=None
        if alerts is None
        else checked("alerts", AlertPolicy, DEFAULT, lambda: AlertPolicy(**alerts).to_config()),
        mail=None
        if mail is None
        else checked("mail", Mail, DEFAULT, lambda: Mail(**mail).to_config()),
    )
    if broken:
        raise BrokenBlocks(good, broken)
    return good


async def register(client: PrefectClient) -> None:
    """Make the block types known to the server; a type that is known is brought up to date."""
    for kind in BLOCKS:
        await kind.aregister_type_and_schema(client=client)


async def seed(
    client: PrefectClient, settings: Settings, *, reset: bool, before: Configuration | None = None
) -> tuple[list[str], list[str]]:
    """Save the documents `settings` describe and the server lacks.

    What a server that is gone had, `before`, counts more than the settings. Returns the names of
    those saved, and what else differs: left, or with `reset` saved too. Values are not shown.
    """
    described = _blocks(seeded(settings))
    known = _blocks(before) if before else {}
    saved, different = [], []
    for shown, (name, block) in (described | known).items():
        there = (await _documents(client, type(block))).get(name)
        wanted = described.get(shown, (name, block))[1]
        fields = [] if there is None else _different_fields(there, wanted)
        if there is None or (fields and reset):
            chosen = block if there is None else wanted
            await chosen.save(document_name(name), overwrite=True, client=client)
            saved.append(shown)
        elif fields:
            different.append(f"{shown}: {', '.join(fields)} (settings say otherwise)")
    return saved, different


def _blocks(configured: Configuration) -> dict[str, tuple[str, Block]]:
    """`type/name` → the document's name and what it should hold."""
    blocks: list[tuple[str, Block]] = [
        (DEFAULT, HealthPolicy.from_config(configured.policy)),
        (DEFAULT, AlertPolicy.from_config(configured.alerts)),
    ]
    blocks += [(app.name, MakiniApp.from_config(app)) for app in configured.apps.values()]
    blocks += [
        (name, SlackChannel.from_config(channel))
        for name, channel in channels_of(configured).items()
    ]
    if configured.mail is not None:
        blocks.append((DEFAULT, Mail.from_config(configured.mail)))
    return {f"{block.get_block_type_slug()}/{name}": (name, block) for name, block in blocks}


def _different_fields(there: dict[str, Any], block: Block) -> list[str]:
    """Fields whose values differ; one the document lacks counts as its default."""
    fields = type(block).model_fields
    return [
        name
        for name in fields
        if _plain(there.get(name, fields[name].default)) != _plain(getattr(block, name))
    ]


async def _documents(client: PrefectClient, kind: type[Block]) -> dict[str, dict[str, Any]]:
    slug, by_name = kind.get_block_type_slug(), {}
    try:
        documents = await client.read_block_documents_by_type(slug, include_secrets=True)
    except (ObjectNotFound, PrefectHTTPStatusError) as error:
        if isinstance(error, ObjectNotFound) or error.response.status_code == 404:
            return {}
        raise
    for document in documents:
        name = None if document.is_anonymous else called(document.name or "")
        if name:
            by_name[name] = document.data
    return by_name


def _app(name: str, data: dict[str, Any]) -> AppConfig:
    return MakiniApp(**data).to_config(name)


def _channel(data: dict[str, Any]) -> SlackConfig:
    return SlackChannel(**data).to_config()


def _reason(error: ValueError) -> str:
    """What is wrong, without the values: they may be secrets."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'])}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_input=False, include_url=False)
    )


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
