"""A login that ends is renewed while the mail about it waits, by a link that was handed on."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from linekeeper.access.invite import invite_again
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from tests.simulation.loop import Host

if TYPE_CHECKING:
    from tests.simulation.ending import Ending
    from tests.simulation.makini.connection import Connection
    from tests.simulation.universe import Universe

MEANWHILE = "renewed"
SOON_MINUTES = 20
WAITING = (
    "SELECT c.makini_key FROM outbox o, json_each(o.payload, '$.connections') j"
    " JOIN connection c ON c.id = j.value WHERE o.channel = 'email' AND o.status = 'pending'"
    " AND json_extract(o.payload, '$.do') = 'ending' AND o.next_attempt_at < ?"
)


async def renewed_meanwhile(
    universe: "Universe", rng: Random, chosen: Sequence["Connection"], ends: Sequence["Ending"]
) -> None:
    """The mail server is away until one of those who are to be mailed has logged in by hand."""
    people = universe.people
    people.kinds.add("mail")
    universe.mail.down = True
    universe.say("renewed: the mail server is away")
    for _ in range(int(4800 * universe.plan.pace / 30)):
        soon = universe.now() + timedelta(minutes=SOON_MINUTES)
        keys = {row[0] for row in universe.ask(WAITING, (soon.isoformat(),))}
        of = [pair for pair in zip(chosen, ends, strict=True) if pair[0].key in keys]
        for connection, ending in of:
            if connection.deleted or not connection.login_ok:
                continue
            link, before = await _link_by_hand(universe, connection), connection.pairs[-1]
            if link and await people.customers.log_in_by(link, connection):
                if not connection.successor and connection.pairs[-1] is before:
                    continue  # the link was not answered, so that nothing was renewed
                ending.renewed_at = universe.now()
                universe.acted.add(MEANWHILE)
                universe.say(f"renewed: {connection.key} logged in while its mail waits")
                await asyncio.sleep(rng.uniform(150.0, 600.0))
                break
        if MEANWHILE in universe.acted or universe.calm:
            break
        await asyncio.sleep(30.0)
    universe.mail.down = False
    universe.say("renewed: the mail server is back")


async def _link_by_hand(universe: "Universe", connection: "Connection") -> str:
    """What `connect` gives an operator, in a process of its own; empty where it gives none."""
    links: list[str] = []

    async def main(_: Host) -> None:
        async with Runtime.open() as rt:
            made = await invite_again(rt, connection.key, by="ann", now=utcnow())
            links.append(urlsplit(made.url).path)

    host, task = universe.start("connect", main)
    await asyncio.wait([task])
    host.end()
    if not task.cancelled() and (error := task.exception()):
        universe.say(f"connect: {type(error).__name__}: {error}")
    return links[0] if links else ""
