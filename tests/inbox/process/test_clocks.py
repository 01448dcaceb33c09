"""Machines whose clocks are ten minutes off, among others that are right, on one PostgreSQL.

Debian's libfaketime sets the clocks of real processes; `make soak` runs it, and installs that.
"""

from pathlib import Path

import pytest

from tests.inbox.process.stage import Stage
from tests.inbox.process.test_kills import Trial, check

pytestmark = pytest.mark.soak
LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class Off(Trial):
    """The receiver, and one of two consumers, have a wrong clock."""

    by = ""
    patience = 300.0

    def clock(self, name: str) -> dict[str, str]:
        if name == "consumer":
            return {}
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME": self.by,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.mark.skipif(LIBRARY is None, reason="not installed: faketime. `make soak` installs it")
@pytest.mark.parametrize("by", ["+10m", "-10m"])
async def test_kills_beside_wrong_clocks_lose_nothing_and_repeat_nothing(
    stage: Stage, tmp_path: Path, by: str
) -> None:
    if stage.rt.store.is_sqlite:
        pytest.skip("SQLite is one machine's, with one clock")
    trial = Off(stage, tmp_path, seed=1)
    trial.by = by
    await trial.run(kills=6)
    # A receiver of ours that checks signatures would refuse those of the consumer that is off, and
    # be asked again; this one only counts them.
    off, stage.product.unverified = stage.product.unverified, 0
    await check(trial)
    print(
        f"\n{by}: {trial.kills.total()} killed, {len(trial.promised):,} events, {off} late stamps"
    )
