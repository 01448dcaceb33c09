"""Delivering what is due: claim, say, settle; what fails is kept with the reason why."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from linekeeper.clock import monotonic, utcnow
from linekeeper.config import Configuration
from linekeeper.incidents.announce import incident_lane
from linekeeper.notify.channels import mark_broken, mark_well
from linekeeper.notify.compose_fold import plain_fold
from linekeeper.notify.decision import Decision
from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.notify.notified import first_notices, incidents_of_fold
from linekeeper.notify.queries import load_views
from linekeeper.notify.refusals import SlackTrouble, unreachable
from linekeeper.notify.renderer import InvalidMessage, Renderer, said
from linekeeper.notify.settling import (
    gather_burst,
    hold_channel,
    release_claim,
    settle_overtaken,
    settle_unsent,
    settle_withheld,
)
from linekeeper.notify.view import IncidentView, Links
from linekeeper.outbox.queue import claim, dead_letter, postpone, retry_at, settle
from linekeeper.outbox.senders.slack import Pacer, open_channel
from linekeeper.store.engine import Store
from linekeeper.store.tables import Outbox

GIVE_UP_AFTER = timedelta(days=3)
"""Until then nothing is given up; what an unresolved incident shows, never."""

_BATCH = 20
_SIDE_BY_SIDE = 4
_START_WITHIN_SECONDS = 60.0
_EACH_WITHIN_SECONDS = 45.0
"""Both together are less than a claim lasts (`outbox.CLAIM_SECONDS`)."""
_LANES_AT_ONCE = 1_000
_PACER = Pacer()


@dataclass(slots=True)
class Delivered:
    """What became of the rows that were due."""

    sent: int = 0
    postponed: int = 0
    dead: int = 0
    withheld: int = 0
    """Not to be said now, or never: the policy says why on each row."""
    held: list[str] = field(default_factory=list)
    """Why rows were postponed or given up, each reason once."""
    unsent: list[str] = field(default_factory=list)
    """What would have been said if Slack were configured."""


async def deliver_due(
    store: Store,
    configuration: Configuration,
    owner: str,
    *,
    clock: Callable[[], datetime] = utcnow,
    limit: int = 50,
    incident_ids: Sequence[str] | None = None,
    links: Links | None = None,
    pacer: Pacer = _PACER,
) -> Delivered:
    """Deliver up to `limit` rows of channel `slack` that are due, or only those of `incident_ids`.

    Each row is said at least once, in a form in which a repeat is harmless. Trouble with Slack is
    never raised: the row stays, with the reason, and is tried again. Without Slack the rows are
    settled and their texts are in `unsent`. Errors of the database are raised.

    First the alert policy is asked what is due to be said; what it holds back is settled unsaid,
    and its first notice will show all of it.
    """
    decision = await evaluate_alerts(store, configuration, now=clock())
    delivery = _Delivery(
        store, configuration, owner=owner, clock=clock, links=links or Links(), pacer=pacer
    )
    delivery.decided = decision
    for lanes in _lanes(incident_ids):
        while limit > 0 and not delivery.held_up:
            rows = await claim(
                store, "slack", owner, limit=min(_BATCH, limit), now=clock(), lanes=lanes
            )
            if not rows:
                break
            limit -= len(rows)
            await delivery.round(rows)
    return delivery.outcome


def _lanes(incident_ids: Sequence[str] | None) -> list[list[str] | None]:
    if incident_ids is None:
        return [None]
    lanes = [incident_lane(identifier) for identifier in incident_ids]
    return [lanes[n : n + _LANES_AT_ONCE] for n in range(0, len(lanes), _LANES_AT_ONCE)]


class _Delivery:
    """One call of `deliver_due`."""

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        *,
        owner: str,
        clock: Callable[[], datetime],
        links: Links,
        pacer: Pacer,
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._slack = slack = configuration.slack
        self._owner = owner
        self._clock = clock
        buttons = slack is not None and bool(slack.signing_secret.get_secret_value())
        self._links = replace(links, buttons=buttons)
        self._pacer = pacer
        self.outcome = Delivered()
        self.decided = Decision()
        self.held_up = False
        """The channel is in trouble: whatever came next would fare no better."""
        self._is_well = False

    async def round(self, rows: Sequence[Outbox]) -> None:
        """Say the claimed `rows`, their lanes side by side."""
        claimed_at = monotonic()
        views = await load_views(
            self._store, [i for row in rows if isinstance(i := row.payload.get("incident_id"), str)]
        )
        firsts, rows = await self._withhold(rows, views)
        if self._slack is None:
            await self._keep(rows, views)
            return
        untouched: list[Outbox] = []
        some = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(row: Outbox, renderer: Renderer) -> None:
            async with some:
                late = monotonic() - claimed_at > _START_WITHIN_SECONDS
                if self.held_up or late:
                    untouched.append(row)
                else:
                    incident_id = row.payload.get("incident_id", "")
                    view, fold = views.get(incident_id), firsts.get(incident_id)
                    await self._deliver(row, view, fold, renderer)

        async with open_channel(self._slack, self._pacer) as channel:
            renderer = Renderer(self._store, channel, self._links, self._clock)
            endings = await asyncio.gather(
                *(one(row, renderer) for row in rows), return_exceptions=True
            )
        if untouched:
            await release_claim(self._store, untouched, self._owner)
        for ending in endings:
            if ending is not None:
                raise ending

    async def _withhold(
        self, rows: Sequence[Outbox], views: Mapping[str, IncidentView]
    ) -> tuple[dict[str, str | None], Sequence[Outbox]]:
        """Settle what is not to be told now; the first notices of the rest, and the rest."""
        firsts = await first_notices(self._store, views)
        if views.keys() - firsts.keys():  # news since the policy was asked
            again = await evaluate_alerts(self._store, self._configuration, now=self._clock())
            again.never = self.decided.never | again.never
            self.decided = again
            firsts = await first_notices(self._store, views)
        unannounced = views.keys() - firsts.keys()
        if not unannounced:
            return firsts, rows
        back = [row for row in rows if row.payload.get("incident_id") in unannounced]
        why = {row.id: self.decided.reason(row.payload["incident_id"]) for row in back}
        await settle_withheld(self._store, back, self._owner, why, now=self._clock())
        self.outcome.withheld += len(back)
        return firsts, [row for row in rows if row.id not in why]

    async def _deliver(
        self, row: Outbox, view: IncidentView | None, fold: str | None, renderer: Renderer
    ) -> None:
        try:
            async with asyncio.timeout(_EACH_WITHIN_SECONDS):
                if row.payload.get("do") == "diary" and row.attempts == 1:
                    row = await gather_burst(self._store, row, now=self._clock())
                await renderer.say(row, view, fold)
        except SlackTrouble as trouble:
            await self._failed(row, view, trouble)
        except TimeoutError:
            await self._failed(row, view, unreachable(f"not within {_EACH_WITHIN_SECONDS:.0f} s"))
        except InvalidMessage as reason:
            await self._bury(row, str(reason))
        else:
            await settle(self._store, [row], self._owner, now=self._clock())
            await self._settle_overtaken([row], {view.id: view} if view else {})
            self.outcome.sent += 1
            if not self._is_well:
                self._is_well = True
                await mark_well(self._store, "slack")

    async def _failed(self, row: Outbox, view: IncidentView | None, trouble: SlackTrouble) -> None:
        now = self._clock()
        reason = str(trouble)
        if trouble.wait is not None:
            until = now + timedelta(seconds=trouble.wait)
        else:
            until = retry_at(row.attempts, now=now)
        shows_open = row.payload.get("do") == "show" and view is not None and not view.resolved_at
        if now - row.created_at > GIVE_UP_AFTER and not shows_open:
            await self._bury(row, f"given up after {GIVE_UP_AFTER.days} days: {reason}")
        else:
            await postpone(self._store, [row], self._owner, reason, until=until)
            self.outcome.postponed += 1
            self._note(reason)
        if trouble.reach == "channel" and not self.held_up:
            self.held_up = True
            await hold_channel(self._store, reason, until=until)
            if trouble.code != "ratelimited":
                await mark_broken(
                    self._store, "slack", reason, needs_mending=not trouble.passing, now=now
                )

    async def _bury(self, row: Outbox, reason: str) -> None:
        await dead_letter(self._store, row, self._owner, reason, now=self._clock())
        self.outcome.dead += 1
        self._note(reason)

    async def _keep(self, rows: Sequence[Outbox], views: dict[str, IncidentView]) -> None:
        now = self._clock()
        texts: dict[str, str] = {}
        for row in rows:
            try:
                if row.payload.get("do") == "fold":
                    key = str(row.payload["fold"])
                    of_it = await load_views(self._store, await incidents_of_fold(self._store, key))
                    texts[row.id] = plain_fold(key, list(of_it.values()), links=self._links)
                else:
                    view = views.get(row.payload.get("incident_id", ""))
                    texts[row.id] = said(row, view, now=now, links=self._links)
            except InvalidMessage as reason:
                await self._bury(row, str(reason))
        kept = [row for row in rows if row.id in texts]
        await settle_unsent(self._store, kept, self._owner, texts, now=now)
        await self._settle_overtaken(kept, views)
        self.outcome.unsent += [texts[row.id] for row in kept]

    async def _settle_overtaken(
        self, rows: Sequence[Outbox], views: dict[str, IncidentView]
    ) -> None:
        keys: list[str] = []
        for row in rows:
            view = views.get(row.payload.get("incident_id", ""))
            if view is not None and row.payload.get("do") == "show":
                lane, _, revision = row.dedupe_key.rpartition(":")
                if revision == "first":
                    continue
                keys += [f"{lane}:{n}" for n in range(int(revision) + 1, view.revision + 1)]
                keys.append(f"{incident_lane(view.id)}:first")
        if keys:
            await settle_overtaken(self._store, keys, now=self._clock())

    def _note(self, reason: str) -> None:
        if reason not in self.outcome.held:
            self.outcome.held.append(reason)
