"""Blocks edited in the Prefect UI reach the database; broken ones change nothing."""

import pytest

from blocks import MakiniApp, SlackChannel
from linekeeper.clock import utcnow
from linekeeper.consumer.settings import BrokenBlocks, copy_blocks
from linekeeper.orchestrator import OrchestratorUnavailable
from linekeeper.store import Store
from linekeeper.store.configuration import load_configuration
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.consumer.conftest import Prefect
from tests.flows.conftest import on_both

pytestmark = on_both  # the copies themselves are tested on both: tests/store


async def edit(prefect: Prefect, name: str = "default", **fields: object) -> None:
    """Save the app's block with `fields`, as the UI does."""
    await MakiniApp(**fields).save(name, overwrite=True, client=prefect.client)


async def test_a_block_edited_reaches_every_process_through_the_database(
    prefect: Prefect, store: Store
) -> None:
    await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())
    before = await load_configuration(store, prefect.settings)
    assert before.apps["default"].mode == "observe"
    await edit(prefect, mode="manage", api_url="https://self.example", client_secret="s3cret")
    await edit(prefect, "second", entities="eam/assets")

    assert await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())
    after = await load_configuration(store, prefect.settings)
    assert after.apps["default"].manages
    assert after.apps["default"].api_url == "https://self.example"
    assert after.apps["default"].client_secret.get_secret_value() == "s3cret"
    assert after.apps["second"].entities == ("eam/assets",)
    assert not await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())


async def test_of_a_broken_block_the_old_copy_stays_and_the_others_are_copied(
    prefect: Prefect, store: Store
) -> None:
    await edit(prefect, mode="manage", api_url="https://good.example")
    await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())
    await edit(prefect, api_url="no scheme", client_secret="topsecret")
    slack = SlackChannel(bot_token="xoxb-1", channel="#line")
    await slack.save("default", client=prefect.client)

    with pytest.raises(BrokenBlocks) as raised:
        await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())

    assert "block makini-app/default: api_url: give a URL" in str(raised.value)
    assert "topsecret" not in str(raised.value)
    after = await load_configuration(store, prefect.settings)
    assert after.apps["default"].api_url == "https://good.example"
    assert after.slack is not None
    assert after.slack.channel == "#line"


async def test_a_block_that_was_deleted_is_gone_from_the_copy(
    prefect: Prefect, store: Store
) -> None:
    await edit(prefect, "second")
    await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())
    for document in await prefect.client.read_block_documents_by_type("makini-app"):
        if document.name == "second":
            await prefect.client.delete_block_document(document.id)
    await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())
    assert set((await load_configuration(store, prefect.settings)).apps) == {"default"}


async def test_with_prefect_away_the_last_copy_stays(
    prefect: Prefect, nobody: PrefectOrchestrator, store: Store
) -> None:
    await edit(prefect, mode="manage")
    await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())
    with pytest.raises(OrchestratorUnavailable, match="can't be reached"):
        await copy_blocks(store, prefect.settings, nobody, now=utcnow())
    assert (await load_configuration(store, prefect.settings)).apps["default"].manages


async def test_further_slack_channels_are_blocks_of_other_names(
    prefect: Prefect, store: Store
) -> None:
    await SlackChannel(bot_token="xoxb-1", channel="#line").save("default", client=prefect.client)
    ops = SlackChannel(bot_token="xoxb-1", channel="#ops", owners="Petra", position=1)
    await ops.save("ops", client=prefect.client)
    await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())
    copied = await load_configuration(store, prefect.settings)
    assert copied.slack is not None
    assert copied.slack.channel == "#line"
    assert copied.slack_channels["ops"].owners == "Petra"

    broken = SlackChannel(bot_token="xoxb-1", channel="#ops", severities="urgent")
    await broken.save("ops", overwrite=True, client=prefect.client)
    with pytest.raises(BrokenBlocks, match="slack-channel/ops: severities: urgent"):
        await copy_blocks(store, prefect.settings, prefect.orchestrator, now=utcnow())
    kept = await load_configuration(store, prefect.settings)
    assert kept.slack_channels["ops"].owners == "Petra"
