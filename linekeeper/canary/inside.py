"""The canary from inside: every few minutes, through the public address, into the database.

It is the same check as the one from outside, without `--wait`. One consumer at a time flies it.
What it finds is an incident of each app, open until a canary comes through. Without a public
address there is none to go through, and nothing is sent.

What is stored has come through: whether it is processed, and taken by the product, is said by the
incidents of the stream (`sweep/stream.py`), which count the canary like any other event. So each
trouble is said once, and nobody hears that webhooks don't come in because the product is away.
"""

import asyncio
from datetime import timedelta

from linekeeper.canary.echo import read_canary
from linekeeper.canary.probe import (
    TIMEOUT_SECONDS,
    BadOrder,
    CanaryOrder,
    Fault,
    send,
)
from linekeeper.canary.probe import take_order as order_of
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.runtime import Runtime
from linekeeper.store import leases

TOPIC = "canary"
TRIES = 3
"""A receiver that restarts is back by the third."""
AGAIN_SECONDS = 15.0
_LEASE = "canary"
_LEASE_SECONDS = 600.0
"""Longer than a flight lasts: all apps side by side, each try a few time-outs."""


async def fly_regularly(rt: Runtime, *, again: float = AGAIN_SECONDS) -> None:
    """Send a canary for each app and bring the incidents in line; once for all consumers.

    Nothing is done where another one did it within `CANARY_MINUTES`.
    """
    minutes = rt.settings.canary_minutes
    if rt.settings.public_url is None or not minutes:
        return
    now = utcnow()
    seconds = max(_LEASE_SECONDS, minutes * 60)
    held = await leases.acquire(rt.store, _LEASE, rt.owner, seconds=seconds, now=now)
    if held is None:
        return
    apps = (await rt.configuration()).apps
    able = [app for app in apps.values() if app.webhook_secrets]
    looks = [_fly(rt, app, again=again) for app in able]
    findings = [finding for finding in await asyncio.gather(*looks) if finding is not None]
    now = utcnow()
    async with rt.store.write() as session:
        await apply_findings(rt.store, session, TOPIC, findings, now=now, apps=apps)
    ends = now + timedelta(minutes=minutes)
    await leases.renew(rt.store, held, seconds=(ends - now).total_seconds() * 0.9, now=now)


async def _fly(rt: Runtime, app: AppConfig, *, again: float) -> Finding | None:
    """What is wrong with the way in of `app`'s webhooks, several times in a row; None: nothing."""
    url = f"{rt.settings.resolved_public_url}/webhooks/{app.name}"
    fault: Fault | BadOrder | None = None
    for number in range(TRIES):
        if number:
            await asyncio.sleep(again)
        try:
            secret = app.webhook_secrets[0].get_secret_value()
            order = order_of(url, secret=secret, scheme=app.webhook_scheme, timeout=TIMEOUT_SECONDS)
            await _send(rt, order, app)
        except (Fault, BadOrder) as reason:
            fault = reason
        else:
            return None
    what = fault.what if isinstance(fault, Fault) else "address"
    return Finding(
        kind="canary_lost",
        cause=f"canary:{app.name}",
        app=app.name,
        title=f"Webhooks to {app.name} not coming through",
        text=f"{fault} ({what})",
        resolved="A canary came through again.",
    )


async def _send(rt: Runtime, order: CanaryOrder, app: AppConfig) -> None:
    """Send one, and see that it is in our database. Raises `Fault`."""
    identifier = await asyncio.to_thread(send, order)
    if await read_canary(rt.store, identifier, [app.name]) is None:
        raise Fault(
            "proxy",
            "The canary was stored, but by another Linekeeper than this: the public address "
            "leads elsewhere. Correct LINEKEEPER_PUBLIC_URL, or the proxy's route.",
        )
