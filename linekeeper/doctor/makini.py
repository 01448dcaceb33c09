"""One Makini app: address, login, list, mode, webhooks, clock, call budget."""

import asyncio
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx

from linekeeper.clock import monotonic, utcnow
from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.doctor.finding import DoctorFinding, ok, warn, wrong
from linekeeper.makini import ConnectionPage, MakiniClient, MakiniError
from linekeeper.makini.failures import http_date
from linekeeper.reconcile.policy import POLICY
from linekeeper.sweep.pace import (
    BUDGET_SHARE,
    SWEEP_MINUTES,
    for_tokens,
    in_words,
    pages_of,
    probe_calls,
    reading_calls,
)
from linekeeper.text import counted, named

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
CLOCK_WARN_SECONDS = 30.0
CLOCK_WRONG_SECONDS = 300.0


async def examine_app(
    makini: MakiniClient,
    policy: HealthPolicy,
    *,
    connections: int,
    renewed: int = 0,
    seconds: float,
    otherwise: str = "",
) -> list[DoctorFinding]:
    """What is to be said about the app of `makini`, which has `connections`; only looks.

    `renewed` of them need a new token for each probe; `otherwise` says of how many rules say
    another mode.
    Raises TimeoutError never; what takes longer than `seconds` is a finding.
    """
    app = makini.app
    findings = [
        address(app),
        mode(app, otherwise),
        webhooks(app),
        budget(app, policy, connections, renewed),
    ]
    login, clock = await asyncio.gather(_login(makini, seconds), _clock(app, seconds))
    findings.append(login)
    if clock is not None:
        findings.append(clock)
    if login.level == "ok":
        findings.append(await _list(makini, seconds))
    return findings


def address(app: AppConfig) -> DoctorFinding:
    """Whether secrets would cross a network in the clear."""
    name = f"app {app.name} · address"
    parts = urlsplit(app.api_url)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        return warn(name, f"{app.api_url} is not encrypted", "use https:// in the MakiniApp block")
    return ok(name, app.api_url)


def mode(app: AppConfig, otherwise: str = "") -> DoctorFinding:
    """What may be done at Makini; `otherwise` is for how many connections rules say otherwise."""
    name = f"app {app.name} · mode"
    if otherwise:
        return ok(
            name, f"{app.mode}, but {otherwise} by rules (linekeeper mode show says by which)"
        )
    if app.manages:
        customers = (
            "customers are notified" if app.notify_customers else "customers are not notified"
        )
        return ok(name, f"manage: tokens are minted and refreshed; {customers}")
    return ok(
        name,
        "observe: only lists and status calls, nothing is changed at Makini; "
        "set the block's mode to manage when you trust it",
    )


def webhooks(app: AppConfig) -> DoctorFinding:
    """Whether deliveries can be verified."""
    name = f"app {app.name} · webhooks"
    if any(secret.get_secret_value() for secret in app.webhook_secrets):
        return ok(name, f"{counted(len(app.webhook_secrets), 'secret')} set")
    return warn(
        name,
        "no webhook secret: every delivery would be refused as unsigned",
        "copy the secret from Makini's dashboard into webhook_secrets of the MakiniApp block",
    )


def budget(
    app: AppConfig, policy: HealthPolicy, connections: int, renewed: int = 0
) -> DoctorFinding:
    """Whether the app's calls a minute bear the probes and the reads that are asked for.

    `renewed` of the connections need a new token for each probe.
    """
    name = f"app {app.name} · call budget"
    if not app.per_minute:
        return ok(name, "no limit")
    every = policy.probe_minutes or SWEEP_MINUTES
    needed = probe_calls(app, policy, connections, renewed)
    most = app.calls_a_minute * BUDGET_SHARE
    listings = connections * len(app.entities) if app.manages else 0
    routine = POLICY.routine / timedelta(minutes=1)
    reads, left = listings / routine, reading_calls(app, policy, connections, renewed)
    fleet = counted(connections, "connection")
    if needed <= most and reads <= left:
        return ok(
            name,
            f"{needed + reads:.0f} of {app.calls_a_minute} calls a minute are enough to probe each "
            f"of {fleet} every {every:g} min"
            + (f" and to read it every {routine:g} min" if listings else ""),
        )
    probing = max(most - pages_of(app, connections) / SWEEP_MINUTES, 0.0)
    said = f"{fleet} every {every:g} min: that takes {needed:.0f} calls a minute"
    said += for_tokens(renewed)
    if needed > most:
        said += f", and {most:.0f} of {app.calls_a_minute} are for it: each is probed "
        said += f"every {(connections + renewed) / probing:.0f} min" if probing else "never"
    if reads > left:
        said += (
            f"; to read {counted(len(app.entities), 'entity')} of each every {routine:g} min takes "
            f"{reads:.0f}, and {left:.0f} are for it: each is read every {in_words(listings, left)}"
        )
    return warn(
        name,
        said,
        "raise per_minute of the MakiniApp block if Makini allows more, or probe_minutes of the "
        "HealthPolicy block; read fewer entities, or less often (workflow-configuration)",
    )


def clock_offset(
    app: str, date: str | None, sent: datetime, received: datetime
) -> DoctorFinding | None:
    """How far our clock is from Makini's `Date` header (whole seconds); None if it isn't said."""
    theirs = http_date(date)
    if theirs is None:
        return None
    middle = sent + (received - sent) / 2
    uncertain = (received - sent) / 2 + timedelta(seconds=1)
    offset = max(abs(middle - theirs) - uncertain, timedelta()).total_seconds()
    name = f"app {app} · clock"
    side = "ahead of" if middle > theirs else "behind"
    text = f"this machine is {offset:.0f} s {side} Makini"
    fix = "synchronise the clock (NTP): expiry of tokens and order of events depend on it"
    if offset >= CLOCK_WRONG_SECONDS:
        return wrong(name, text, fix)
    if offset >= CLOCK_WARN_SECONDS:
        return warn(name, text, fix)
    return ok(name, "the same as Makini's")


async def _login(makini: MakiniClient, seconds: float) -> DoctorFinding:
    app = makini.app
    name = f"app {app.name} · login"
    if not app.client_id or not app.client_secret.get_secret_value():
        return wrong(
            name,
            "client_id or client_secret is empty",
            "copy both from Makini's dashboard into the MakiniApp block",
        )
    started = monotonic()
    try:
        async with asyncio.timeout(seconds):
            known_as = await makini.check()
    except TimeoutError:
        return _too_slow(name, seconds)
    except MakiniError as error:
        finding = _refused(name, error)
        # One page that is refused says nothing of the login, if the list is given.
        if error.status is None or (await _list(makini, seconds)).level == "wrong":
            return finding
        return ok(name, f"accepted; only the app's own page is not given ({finding.text})")
    return ok(name, f"Makini knows us as {known_as} ({monotonic() - started:.1f} s)")


async def _list(makini: MakiniClient, seconds: float) -> DoctorFinding:
    name = f"app {makini.app.name} · list"
    pages = makini.list_connections()
    try:
        async with asyncio.timeout(seconds):
            page = await anext(pages, ConnectionPage([]))
    except TimeoutError:
        return _too_slow(name, seconds)
    except MakiniError as error:
        return _refused(name, error)
    unknown = sorted(
        {connection.status for connection in page.connections if connection.lifecycle == "unknown"}
    )
    if unknown:
        return warn(
            name,
            f"connections have a status Linekeeper doesn't know: {named(unknown)}",
            "they count as unknown, never as healthy: please report it",
        )
    return ok(name, f"{counted(len(page.connections), 'connection')} on the first page")


async def _clock(app: AppConfig, seconds: float) -> DoctorFinding | None:
    """Asks for no page in particular and sends no secret: any answer has the date."""
    sent = utcnow()
    try:
        async with httpx.AsyncClient(timeout=seconds) as client:
            response = await client.head(app.api_url)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None  # the login says what is wrong
    return clock_offset(app.name, response.headers.get("date"), sent, utcnow())


def _refused(name: str, error: MakiniError) -> DoctorFinding:
    return wrong(name, error.said, error.advice)


def _too_slow(name: str, seconds: float) -> DoctorFinding:
    return wrong(
        name,
        f"no answer within {seconds:g} s",
        "try again; if other processes use up the app's calls, raise per_minute",
    )
