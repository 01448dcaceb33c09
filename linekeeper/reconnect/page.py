"""The page `reconnect-<incident>` and the form of its run: who has to log in, what was tried."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import col, select

from linekeeper.access.links import link_url
from linekeeper.access.signing import load_signer
from linekeeper.markdown import text
from linekeeper.reconnect.case import Case
from linekeeper.reconnect.counts import backfilled
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Incident, Transition
from linekeeper.text import Plain, health_name


def waiting_for(case: Case) -> str:
    """What the form of the run of the case says."""
    members = [member for member in case.members if member.live]
    if not case.is_unsettled:
        members = case.waiting or members
    names = [text(member.label) for member in members]
    and_more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (
        f"**Waiting for a login:** {', '.join(names[:10])}{and_more}.\n\n"
        "The run goes on by itself once the customer has logged in, or the connection is well "
        f"again. Links and state: artifact `{artifact_of(case.incident.id)}`. This form is only "
        "for a note, a snooze, or giving up."
    )


def artifact_of(incident_id: str) -> str:
    """The artifact's key."""
    return f"reconnect-{incident_id}"


async def case_markdown(rt: Runtime, case: Case) -> str:
    """The page: what was tried, who has to log in, by which link."""
    signer = await load_signer(rt.store)
    reconnect = case.reconnect
    tried = await _tried(rt, [member.connection_id for member in case.members[:200]])
    lines = [
        f"# {text(case.incident.title)}",
        f"{health_name('reauthorization_required')} {_lasted(case.incident)}. Where Linekeeper "
        "manages the connection, it first tried what needs no customer (refresh the token, mint "
        "a new one).",
        "| Connection | Connect link | State | Backfilled | Makini's response |\n"
        "|---|---|---|---|---|",
    ]
    rows = []
    for member in case.members[:200]:
        url = (
            link_url(signer, rt.settings.resolved_public_url, member.link_id)
            if member.waits and member.link_id
            else None
        )
        counts = (reconnect.counts if reconnect else {}).get(member.connection_id, {})
        state = "waits for its customer" if member.waits else health_name(member.health)
        rows.append(
            f"| {text(member.label)} | {f'[link]({url})' if url else '—'} | {state} | "
            f"{backfilled([counts]) if counts else '—'} | "
            f"{text(tried.get(member.connection_id), 160)} |"
        )
    remaining = len(case.members) - 200
    return (
        "\n\n".join(lines)
        + "\n"
        + "\n".join(rows)
        + (f"\n\n… and {remaining} more.\n" if remaining > 0 else "\n")
    )


def _lasted(incident: Incident) -> str:
    """Since when: a length of time would be wrong by the next minute."""
    moment = Plain().moment
    since = f"since {moment(incident.reopened_at or incident.opened_at)}"
    return f"{since} until {moment(incident.resolved_at)}" if incident.resolved_at else since


async def _tried(rt: Runtime, connections: Sequence[str]) -> dict[str, str]:
    async with rt.store.read() as session:
        rows = await session.execute(
            select(Transition.connection_id, Transition.source, Transition.evidence)
            .where(
                col(Transition.connection_id).in_(connections),
                col(Transition.axis) == "health",
                col(Transition.after) == "reauthorization_required",
            )
            .order_by(col(Transition.at), col(Transition.id))
        )
        return {row[0]: f"{row[1]}: {_said(row[2])}" for row in rows}


def _said(evidence: Mapping[str, Any]) -> str:
    said = (str(evidence[name]) for name in ("code", "message") if evidence.get(name))
    return " ".join(dict.fromkeys(said))
