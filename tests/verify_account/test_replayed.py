"""A recording replayed: the sandbox differs as the account did, and is found to."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from linekeeper.cli.sandbox import settings_of
from linekeeper.refusal import UserError
from sandbox.quirks import QUIRKS
from tests.simulation.recorded import personality_of
from tests.verify_account.conftest import Account

ROOT = Path(__file__).parents[2]
Open = Callable[..., Awaitable[Account]]
TOGETHER = [
    {"relative-expiry", "no-total", "fields-renamed", "times-coarse", "links-whole"},
    {"per-page-ignored", "total-too-high", "status-renamed", "errors-bare", "no-updated-at"},
    {"no-app-routes", "page-ignored", "unknown-is-400", "sync-renamed", "limit-stated"},
    {"filter-ignored", "sort-ignored", "no-single-record"},
    {"keys-numbers"},
]


def test_every_quirk_is_replayed() -> None:
    assert set().union(*TOGETHER) == set(QUIRKS)


@pytest.mark.parametrize("quirks", TOGETHER, ids=lambda quirks: sorted(quirks)[0])
async def test_a_sandbox_behaves_as_the_account_that_was_recorded(
    open_account: Open, quirks: set[str]
) -> None:
    account = await open_account(quirks=frozenset(quirks))
    await account.borrow_tokens()
    found = await account.verify(data=True)
    like = settings_of(Path(found.recording))
    assert like["quirks"] >= quirks


async def test_what_is_no_quirk_is_a_setting(open_account: Open) -> None:
    account = await open_account(distinct_ids=True, listed_ids=False, paging="cursor")
    account.makini.world.faults.since = "modified_after"
    await account.borrow_tokens()
    like = settings_of(Path((await account.verify(data=True)).recording))
    assert (like["distinct_ids"], like["listed_ids"]) == (True, False)
    assert (like["paging"], like["since"]) == ("cursor", "modified_after")


async def recorded(open_account: Open) -> Path:
    account = await open_account(paging="cursor", quirks=frozenset({"relative-expiry"}))
    account.makini.world.faults.since = "modified_after"
    await account.borrow_tokens()
    return Path((await account.verify(data=True)).recording)


async def test_a_recording_decides_what_the_simulated_makini_is(open_account: Open) -> None:
    decided = personality_of(await recorded(open_account))
    assert decided["paging"] == "cursor"
    assert (decided["since"], decided["expires_in"]) == ("modified_after", "relative")
    assert "status_lag" not in decided  # nobody saw it: the seed draws it


@pytest.mark.soak
async def test_the_simulated_world_has_a_makini_as_it_was_recorded(open_account: Open) -> None:
    file = await recorded(open_account)
    command = (sys.executable, "-m", "tests.simulation", "--seed", "1", "--trace")
    process = await asyncio.create_subprocess_exec(
        *command,
        "--days",
        "0.02",
        "--recording",
        str(file),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said[-2_000:]
    assert "paging=cursor" in said
    assert "since=modified_after" in said
    assert "expires_in=relative" in said


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        settings_of(tmp_path / "none.jsonl")
    (tmp_path / "x.jsonl").write_text("{}")
    with pytest.raises(UserError, match="no recording"):
        settings_of(tmp_path / "x.jsonl")
