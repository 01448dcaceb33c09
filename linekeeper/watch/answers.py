"""Whether each receiver answers over HTTP: its heartbeat comes from beside its answering.

A receiver that is out of connections, or whose port something else took, still writes to the
database. So each sweep asks every receiver that it can reach, at the address the heartbeat gives.
Those that follow one another at one address, each of them killed, are one receiver.
"""

import asyncio
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import httpx
from sqlalchemy import select
from sqlmodel import col

from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Incident
from linekeeper.watch.decide import Part
from linekeeper.watch.queries import read_parts
from linekeeper.watch.service import policy_of

TOPIC = "answers"
TRIES = 3
"""A receiver that restarts answers by the third."""
AGAIN_SECONDS = 2.0
TIMEOUT_SECONDS = 5.0
WRITES_WITHIN = timedelta(minutes=1)
"""A receiver that wrote its heartbeat so lately still writes; they do every few seconds."""


@dataclass(frozen=True, slots=True)
class ReceiverAnswer:
    """What came of asking one receiver; `fault` is empty where it answered."""

    part: Part
    fault: str = ""
    writes: bool = True
    """Whether it still writes to the database."""


async def watch_answers(
    rt: Runtime, *, timeout: float = TIMEOUT_SECONDS, again: float = AGAIN_SECONDS
) -> None:
    """Ask every receiver that reported lately, and bring the incidents in line with the answers."""
    policy = policy_of(rt, await rt.configuration())
    async with rt.store.read() as session:
        now = await rt.store.clock(session)
        beats = [part for part in await read_parts(session) if part.kind == "receiver"]
        rows = await session.scalars(
            select(col(Incident.cause)).where(
                col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None)
            )
        )
        known = set(rows)
    parts = newest_at_each_address(beats)
    # One that is silent is missed by its heartbeat already.
    heard = [part for part in parts if now - part.at < policy.after]
    asked = await asyncio.gather(
        *(_ask(part, timeout=timeout, again=again) for part in heard if is_reachable(part))
    )
    asked = [
        answer and replace(answer, writes=now - answer.part.at < WRITES_WITHIN) for answer in asked
    ]
    findings = what_is_wrong(parts, asked, known)
    if findings or known:
        async with rt.store.write() as session:
            now = await rt.store.clock(session)
            await apply_findings(rt.store, session, TOPIC, findings, now=now)


def newest_at_each_address(parts: Sequence[Part]) -> list[Part]:
    """Of the receivers at one address the one that was heard last. Pure."""
    newest = {_cause(part): part for part in sorted(parts, key=lambda part: part.at)}
    return list(newest.values())


def what_is_wrong(
    parts: Sequence[Part], asked: Sequence[ReceiverAnswer | None], known: Collection[str]
) -> list[Finding]:
    """One finding for each receiver that did not answer. Pure.

    Where nothing can be known from here (another machine's loopback address, a name that does not
    resolve, a receiver that is silent altogether) what was found elsewhere stays as it is.
    """
    answers = {answer.part.name: answer for answer in asked if answer is not None}
    findings = []
    for part in parts:
        answer = answers.get(part.name)
        if answer is None and _cause(part) in known:
            answer = ReceiverAnswer(part, "it did not answer when it was last asked")
        if answer is not None and answer.fault:
            findings.append(_finding(answer))
    return findings


def own_address(settings: Settings) -> str:
    """Where other parts reach this machine's receiver; empty where that is not known."""
    host, port = settings.receiver_host, settings.receiver_port
    if not port:
        return ""
    if _address(host) in (IPv4Address(0), IPv6Address(0)):  # all of the machine's own
        try:
            host = socket.gethostbyname(socket.gethostname())
        except OSError:
            return ""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_reachable(part: Part) -> bool:
    """Whether a receiver can be asked from this machine."""
    host = urlsplit(part.mark).hostname or ""
    address = _address(host)
    is_loopback = host == "localhost" if address is None else address.is_loopback
    return bool(host) and (not is_loopback or part.host == socket.gethostname())


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """`host` as an address; None where it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


async def _ask(part: Part, *, timeout: float, again: float) -> ReceiverAnswer | None:
    """What came of it, after some tries; None where its name does not resolve here."""
    fault = ""
    async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
        for number in range(TRIES):
            if number:
                await asyncio.sleep(again)
            try:
                async with client.stream("GET", f"{part.mark}/healthz") as answer:
                    status = answer.status_code
            except httpx.TimeoutException:
                fault = f"it did not answer within {timeout:g} s"
            except httpx.HTTPError as error:
                if isinstance(_root(error), socket.gaierror):
                    return None
                fault = f"the connection failed ({type(error).__name__})"
            else:
                if status == 200:
                    return ReceiverAnswer(part)
                fault = f"it answered {status}"
    return ReceiverAnswer(part, fault)


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _cause(part: Part) -> str:
    return f"answers:{part.host}:{part.mark or part.name}"


def _finding(answer: ReceiverAnswer) -> Finding:
    part = answer.part
    writes = "writes" if answer.writes else f"last wrote at {part.at:%-d %b %H:%M} UTC"
    return Finding(
        kind="part_silent",
        cause=_cause(part),
        app="",
        title=f"No answer from the receiver on {part.host}",
        text=f"The receiver on {part.host} {writes} to the database, and a sweep that asked it at "
        f"{part.mark} got no answer: {answer.fault}. Webhooks to it are probably lost until "
        "Makini sends them again. Restart it; `linekeeper doctor` shows every part.",
        scope="house",
        resolved=f"The receiver on {part.host} answers again, or another took its place.",
    )
