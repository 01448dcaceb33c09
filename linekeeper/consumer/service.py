"""The consumer: what always runs, with Prefect down too (DESIGN "Three kinds of process")."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from linekeeper.access.verify import verify_logins
from linekeeper.authentication_setup.watch import watch as watch_setups
from linekeeper.canary.inside import fly_regularly
from linekeeper.clock import monotonic, utcnow
from linekeeper.consumer.alive import BEAT_SECONDS, DEAD_AFTER, beat, retire
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.consumer.loops import ServiceLoop, keep
from linekeeper.consumer.record_events import RecordEvents
from linekeeper.consumer.settings import copy_blocks
from linekeeper.consumer.slack_socket import SlackSockets
from linekeeper.consumer.waker import CONNECTION_WEBHOOKS, RECORD_WEBHOOKS, Waker
from linekeeper.implementation.watch import forecast_missed
from linekeeper.implementation.watch import watch as watch_implementations
from linekeeper.inbox.sealing import Sealing
from linekeeper.notify.forms import show_with_forms
from linekeeper.notify.view import Links
from linekeeper.orchestrator import Orchestrator
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.queue import is_due, outbox_of
from linekeeper.outbox.sender import Ended
from linekeeper.outbox.senders.apprise import fallback_sender
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.outbox.senders.mail import mailing
from linekeeper.outbox.senders.prefect import events_to_prefect, runs_to_prefect
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.outbox.senders.slack_delivery import SlackDelivery
from linekeeper.reconcile.outage import note_outages
from linekeeper.reconnect.ending import announce_ending
from linekeeper.reconnect.unasked import Unasked
from linekeeper.reconnect.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.sweep.interrupted import verify_interrupted
from linekeeper.sweep.recent import looking
from linekeeper.sweep.webhooks import watch_stream
from linekeeper.watch.service import Watcher
from linekeeper.workflow_configuration.service import watch as watch_configurations

BLOCKS_EVERY = 30.0
OUTBOX_EVERY = 2.0
"""Seconds until rows whose time has come are looked for, without any change to see."""
BUSY_SECONDS = 2.0
"""The same while something is being sent, or read."""
POLICY_EVERY = 5.0
"""Seconds until the alert policy is asked what time alone has made due."""
LINKS_EVERY = 60.0
MISSING_LINKS_EVERY = 5.0
"""Seconds until forms are looked for that Prefect didn't have yet: right after the start."""
RECONNECTS_EVERY = 10.0
UNASKED_EVERY = 30.0
LOGINS_EVERY = 10.0
ENDING_EVERY = 60.0
INTERRUPTED_EVERY = 60.0
IMPLEMENTATIONS_EVERY = 5.0
FORECASTS_EVERY = 300.0
OUTAGES_EVERY = 30.0
SOCKETS_EVERY = 2.0
SEALING_EVERY = 30.0
CALLS_EVERY = 5.0
STREAM_EVERY = 30.0
"""Trouble of the webhook stream is found within a minute of its threshold."""
ENDING_SECONDS = 3.0
"""How long a step may take to finish once the end is asked for."""
RETIRING_SECONDS = 1.0
DELIVERIES = {"mail": "email", "elsewhere": "elsewhere", "events": "event", "runs": "run"}
"""The loops that deliver a channel of the outbox whose destinations may all be waited for."""
log = logging.getLogger(__name__)

FindLinks = Callable[[], Awaitable[Links]]
"""Where the Prefect UI and its forms are, for links in messages."""


class _PrefectLinks:
    """The links to forms that messages have; looked up now and then."""

    def __init__(self, store: Store, find: FindLinks) -> None:
        self._store = store
        self._find = find
        self._asked = float("-inf")
        self._links = Links()

    def __call__(self) -> Links:
        return self._links

    async def step(self) -> bool:
        """Look them up where they are not known yet, or were looked up long ago."""
        if self._links.has_all_forms and monotonic() - self._asked < LINKS_EVERY:
            return False
        self._links = await self._find()
        self._asked = monotonic()
        await show_with_forms(self._store, self._links, now=utcnow())
        return False


def service_loops(
    rt: Runtime,
    orchestrator: Orchestrator,
    links: _PrefectLinks,
    waker: Waker,
    *,
    forwarder: Dispatcher,
    dispatchers: Mapping[str, Dispatcher],
    record_events: RecordEvents,
    speaker: SlackDelivery,
) -> list[ServiceLoop]:
    policy_asked = float("-inf")

    async def blocks() -> bool:
        await copy_blocks(rt.store, rt.settings, orchestrator, now=utcnow())
        return False

    async def be_alive() -> bool:
        if (was_ahead := await put_right(rt.store, beat=DEAD_AFTER)) is not None:
            log.warning("the clock was %s ahead: what that put off is due", was_ahead)
        for owner in await beat(rt.store, rt.owner):
            log.warning("consumer %s is gone: its work is taken over", owner)
        return False

    async def slack() -> bool:
        nonlocal policy_asked
        now = monotonic()
        is_asked = now - policy_asked >= POLICY_EVERY
        if not (is_asked or speaker.is_busy):
            async with rt.store.read() as session:
                is_asked = await is_due(session, outbox_of("slack"), now=utcnow())
        if is_asked:
            policy_asked = now
            await speaker.evaluate(await rt.configuration(), links())
        more_is_due = waker.next("slack", seconds=BUSY_SECONDS)
        return (is_asked or speaker.is_busy) and await speaker.step(more_is_due)

    async def forward() -> bool:
        return await forwarder.step(waker.next("forward", seconds=BUSY_SECONDS))

    async def record_webhooks() -> bool:
        return await record_events.step(waker.next(RECORD_WEBHOOKS, seconds=BUSY_SECONDS))

    async def look_at_reconnects() -> bool:
        await watch(rt, now=utcnow())
        return False

    async def verify_kept_logins() -> bool:
        await verify_logins(rt, now=utcnow())
        return False

    async def verify_interrupted_renewals() -> bool:
        await verify_interrupted(rt, now=utcnow())
        return False

    async def announce_ending_logins() -> bool:
        await announce_ending(rt, now=utcnow())
        return False

    async def look_at_implementations() -> bool:
        await watch_implementations(rt.store, now=utcnow())
        return False

    async def forecast_implementations() -> bool:
        await forecast_missed(rt.store, rt.owner, now=utcnow())
        return False

    async def look_at_configurations() -> bool:
        await watch_configurations(rt, now=utcnow())
        return False

    async def look_at_setups() -> bool:
        await watch_setups(rt, now=utcnow())
        return False

    async def look_for_outages() -> bool:
        await note_outages(rt.store, now=utcnow(), starting_runs=True)
        return False

    async def look_at_stream() -> bool:
        await watch_stream(rt, utcnow())
        return False

    async def count_calls() -> bool:
        await rt.count_calls()
        return False

    return [
        ServiceLoop("alive", be_alive, every=BEAT_SECONDS),
        ServiceLoop(
            "connection webhooks",
            lambda: process_connection_events(rt),
            every=OUTBOX_EVERY,
            waits_for=CONNECTION_WEBHOOKS,
        ),
        ServiceLoop(
            "record webhooks",
            record_webhooks,
            every=OUTBOX_EVERY,
            waits_for=RECORD_WEBHOOKS,
        ),
        ServiceLoop(
            "reconnects", lambda: advance_due_cases(rt), every=OUTBOX_EVERY, waits_for="reconnect"
        ),
        ServiceLoop("open reconnects", look_at_reconnects, every=RECONNECTS_EVERY),
        ServiceLoop("customers not asked", Unasked(rt).step, every=UNASKED_EVERY),
        ServiceLoop("kept logins", verify_kept_logins, every=LOGINS_EVERY),
        ServiceLoop("interrupted renewals", verify_interrupted_renewals, every=INTERRUPTED_EVERY),
        ServiceLoop("ending logins", announce_ending_logins, every=ENDING_EVERY),
        ServiceLoop("implementations", look_at_implementations, every=IMPLEMENTATIONS_EVERY),
        ServiceLoop("forecasts", forecast_implementations, every=FORECASTS_EVERY),
        ServiceLoop("configurations", look_at_configurations, every=IMPLEMENTATIONS_EVERY),
        ServiceLoop("authentication set-ups", look_at_setups, every=IMPLEMENTATIONS_EVERY),
        ServiceLoop("outages of ours", look_for_outages, every=OUTAGES_EVERY),
        ServiceLoop("webhook stream", look_at_stream, every=STREAM_EVERY),
        ServiceLoop("bodies at rest", Sealing(rt.store).step, every=SEALING_EVERY),
        ServiceLoop("calls to Makini", count_calls, every=CALLS_EVERY),
        ServiceLoop("forward", forward, every=OUTBOX_EVERY, waits_for="forward"),
        ServiceLoop("block settings", blocks, every=BLOCKS_EVERY),
        ServiceLoop("links", links.step, every=MISSING_LINKS_EVERY),
        ServiceLoop("slack", slack, every=OUTBOX_EVERY, waits_for="slack"),
        *(
            ServiceLoop(
                name, partial(_deliver, dispatchers[channel]), OUTBOX_EVERY, waits_for=channel
            )
            for name, channel in DELIVERIES.items()
        ),
    ]


async def _deliver(dispatcher: Dispatcher) -> bool:
    """Deliver what is due; whether a message was taken, and so there may be more to do."""
    return any(isinstance(result, Ended) for _, result in await dispatcher.deliver())


async def run_consumer(
    rt: Runtime,
    orchestrator: Orchestrator,
    *,
    find_links: FindLinks,
    stop: asyncio.Event,
    also: Sequence[ServiceLoop] = (),
) -> None:
    """Apply webhooks, deliver the outbox and copy the blocks until `stop`; and what `also` does.

    It ends within `ENDING_SECONDS` then.
    Nothing that happens to one loop ends another. A step that is cut off is repeated by the next
    consumer once its claim has run out.
    """
    waker = Waker(rt.store)
    links = _PrefectLinks(rt.store, find_links)
    watch = ServiceLoop("database", waker.run, every=0)
    sockets = SlackSockets(rt, links)
    async with (
        forwarding(rt) as forwarder,
        mailing(rt) as mails,
        fallback_sender(
            rt.store, rt.owner, rt.configuration, links=links, look=looking(rt)
        ) as fallback_channels,
        events_to_prefect(rt.store, orchestrator, rt.owner) as events,
        runs_to_prefect(rt.store, orchestrator, rt.owner) as runs,
        RecordEvents(rt) as record_events,
        SlackDelivery(rt.store, rt.owner, look=looking(rt)) as speaker,
    ):
        watcher = Watcher(rt, "consumer")

        async def watch_parts() -> bool:
            await watcher.step()
            return False

        is_started = False

        async def fly_canary() -> bool:
            nonlocal is_started
            if is_started:  # not at once: when a host starts, the receiver may come later
                await fly_regularly(rt)
            is_started = True
            return False

        parts = service_loops(
            rt,
            orchestrator,
            links,
            waker,
            forwarder=forwarder,
            dispatchers={
                each.sender.channel: each for each in (mails, fallback_channels, events, runs)
            },
            record_events=record_events,
            speaker=speaker,
        )
        parts.append(ServiceLoop("watch", watch_parts, every=watcher.seconds))
        parts.append(
            ServiceLoop("canary", fly_canary, every=60 * (rt.settings.canary_minutes or 1))
        )
        parts.append(ServiceLoop("socket mode", sockets.step, every=SOCKETS_EVERY))
        loops = [
            asyncio.create_task(keep(loop, waker, stop), name=loop.name)
            for loop in (watch, *parts, *also)
        ]
        try:
            await stop.wait()
            loops[0].cancel()
            waker.wake_all()
            await asyncio.wait(loops, timeout=ENDING_SECONDS)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await sockets.close()
    await watcher.end()
    await _retire(rt)


async def _retire(rt: Runtime) -> None:
    try:
        async with asyncio.timeout(RETIRING_SECONDS):
            await retire(rt.store, rt.owner)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        log.warning("what was claimed waits for its claim to run out: %s", type(error).__name__)
