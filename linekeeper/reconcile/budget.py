"""Whether the call budget bears what the cadences ask for."""

from collections.abc import Sequence
from datetime import timedelta

from linekeeper.config import AppConfig
from linekeeper.reconcile.due import Paced, PollOrder, ReadState, standings
from linekeeper.runtime import Runtime
from linekeeper.sweep.pace import in_words, reading_calls

_UNPACED = Paced(None, 0, None)
"""Stands for what has no cadence of its own."""


async def over_budget(rt: Runtime, app: AppConfig, order: PollOrder) -> str:
    """Why the connections of `app` can't be read as often as is said; empty where they can."""
    if not app.per_minute:
        return ""
    known, circuits = await standings(rt, app, order)
    policy = (await rt.configuration()).policy
    needed, left = calls_needed(known), reading_calls(app, policy, len(known) + circuits)
    if needed <= left:
        return ""
    once = in_words(sum(standing.wanted for standing in known), left)
    return (
        f"app {app.name}: the call budget leaves {left:,.0f} of the {needed:,.0f} calls a minute "
        f"that the cadences need, so to read everything once takes {once}, critical ones first"
    )


def calls_needed(standings: Sequence[ReadState]) -> float:
    """Calls a minute to read each connection by its cadence, one page an entity. Pure.

    What was never asked for is taken to be offered.
    """
    minute = timedelta(minutes=1)
    return sum(
        sum(paced.offered / (standing.cadence(paced) / minute) for paced in standing.paced)
        + max(standing.wanted - standing.entities, 0) / (standing.cadence(_UNPACED) / minute)
        for standing in standings
    )
