"""The first chapters of `linekeeper demo`: a login, an outage, a webhook, a step."""

from collections import Counter

from sqlalchemy import func, select
from sqlmodel import col

from linekeeper.cli.demo_tour import Tour
from linekeeper.clock import utcnow
from linekeeper.notify.channels import with_artifacts
from linekeeper.notify.view import Links
from linekeeper.orchestrator import RunRequest
from linekeeper.reconnect.counts import backfilled
from linekeeper.store import new_id
from linekeeper.store.tables import (
    Customer,
    Drift,
    Gate,
    Implementation,
    Incident,
    Reconnect,
    Watermark,
    WebhookTrust,
)
from linekeeper.views.trust_page import KEY as WEBHOOK_TRUST

OUTAGE_MEMBERS = 5
"""This many connections of one provider that fail alike are one incident."""
LOST = 4


async def login(leading: Tour, count: str) -> None:
    """A lost login, followed to "Reconnected"."""
    connection, name = (await leading.well())[0]
    leading.says("", f"[bold]{count} · A lost login[/]", f"Somebody at {name} changes a password.")
    now = utcnow()
    await leading.breaks(connection, "change-credentials")

    async def asked() -> Incident | None:
        incident = await leading.incident_of(connection.id, since=now)
        return incident if incident is not None and incident.connect_url else None

    incident = await leading.waits(f"Linekeeper has noticed that {name} lost its login", asked)
    leading.says(
        f"It is red in Slack: {leading.sandbox}/slack",
        "Now be the customer. Click [bold]Connect link for the customer[/] under that message, or",
        f"  {incident.connect_url}",
        f"then [bold]Log in[/], pick [bold]{name}[/] (it is marked “Reauthorization required”), "
        "and enter any name and password.",
    )

    async def reconnected() -> Reconnect | None:
        async with leading.store.read() as session:
            case = await session.get(Reconnect, incident.id)
        return case if case is not None and case.closed_at is not None else None

    case = await leading.waits("you have logged in, and the case is closed", reconnected)
    leading.says(
        "[bold]Reconnected.[/] The new login was verified by a read, and the message in Slack is "
        "green. The backfill of what changed meanwhile:",
        f"  {backfilled(list(case.counts.values()))}.",
        "The run that waited for you:",
        f"  {leading.ui}/runs/flow-run/{case.run_id}",
    )


async def outage(leading: Tour, count: str) -> None:
    """An outage of a whole provider: one message, taken and over."""
    well = await leading.healthy()
    sizes = Counter(connection.provider for connection, _ in well)
    provider, size = max(sizes.items(), key=lambda item: item[1], default=("", 0))
    members = [(connection, name) for connection, name in well if connection.provider == provider]
    leading.says("", f"[bold]{count} · An outage[/]")
    if size < OUTAGE_MEMBERS:
        leading.says("No provider has five healthy connections, so this chapter is skipped.")
        return
    leading.says(f"All {size} {provider} systems go away at once. That takes three misses each.")
    now = utcnow()
    for connection, _ in members:
        await leading.breaks(connection, "go-offline")

    async def one_incident() -> Incident | None:
        incident = await leading.incident_of(members[0][0].id, since=now)
        return incident if incident is not None and incident.scope != "connection" else None

    incident = await leading.waits("they are one incident", one_incident)
    leading.says(
        f"{size} systems, one message: “{incident.title}”, {leading.sandbox}/slack",
        "Click [bold]Acknowledge[/] under that message. From then on nobody is reminded.",
    )

    async def acknowledged() -> str | None:
        async with leading.store.read() as session:
            row = await session.get_one(Incident, incident.id)
        return row.acknowledged_by if row.acknowledged_at else None

    by = await leading.waits("you have acknowledged it", acknowledged)
    leading.says(f"It says so: acknowledged by {by}. Now the systems come back.")
    await leading.restores()

    async def resolved() -> Incident | None:
        async with leading.store.read() as session:
            row = await session.get_one(Incident, incident.id)
        return row if row.resolved_at else None

    await leading.waits("it is resolved by itself", resolved)


async def webhook(leading: Tour, count: str) -> None:
    """A webhook that never came, found by reconciling."""
    connection, name = (await leading.undisturbed())[0]
    leading.says(
        "",
        f"[bold]{count} · A lost webhook[/]",
        f"{LOST} records change at {name}, once they are known, and no webhook says so.",
    )
    await first_read(leading, connection.id, name)
    now = utcnow()
    await leading.control("records", connection=connection.makini_key, change=LOST, announce=False)
    leading.says(
        "Nothing has happened here: nobody can notice what was never said. Unless one looks:",
        f"open {leading.ui}/deployments, open [bold]reconcile[/], click [bold]Run[/] → "
        "[bold]Quick run[/].",
    )

    async def missed_changes() -> int | None:
        async with leading.store.read() as session:
            missed = await session.scalar(
                select(func.sum(col(Drift.missed))).where(
                    col(Drift.connection_id) == connection.id, col(Drift.run_at) >= now
                )
            )
            trust = await session.get(WebhookTrust, connection.id)
        return missed if trust is not None and trust.measured_at >= now else None

    missed = await leading.waits("reconcile has read what changed", missed_changes)
    links = await with_artifacts(leading.store, Links(leading.ui), [WEBHOOK_TRUST])
    leading.says(
        f"[bold]{missed} changes that no webhook announced[/] at {name}: counted, repaired, and in "
        "the feed of changes that your product reads.",
        f"How far webhooks can be trusted: {links.artifact(WEBHOOK_TRUST)}",
    )


async def first_read(leading: Tour, connection_id: str, name: str) -> None:
    """Wait for it: what changes before is part of that reading, so that nothing could be missed."""
    await leading.waits(f"reconcile has read {name} once", lambda: _is_read(leading, connection_id))


async def _is_read(leading: Tour, connection_id: str) -> bool | None:
    """Whether every entity that the connection offers was read as a whole; None until then."""
    async with leading.store.read() as session:
        rows = await session.scalars(
            select(col(Watermark.full_at)).where(
                col(Watermark.connection_id) == connection_id, col(Watermark.offered).is_(True)
            )
        )
    listed = list(rows)
    return True if listed and None not in listed else None


async def step(leading: Tour, count: str) -> None:
    """A new customer: the first step of an implementation, answered in a form."""
    customer = f"Demo {new_id()[-4:]}"
    leading.says(
        "",
        f"[bold]{count} · Bringing a customer live[/]",
        f"{customer} is to be connected. The whole project is one run; its first step waits for "
        "you.",
    )
    parameters = {
        "customer": customer,
        "systems": [{"name": "UpKeep"}],
        "kickoff": utcnow().date().isoformat(),
        "by": "linekeeper demo",
    }
    run = RunRequest("implementation", idempotency_key=f"demo:{customer}", parameters=parameters)
    project = await leading.orchestrator.start_run(run)

    async def open_step() -> Gate | None:
        return await step_of(leading, customer, "kickoff")

    first = await leading.waits("its first step is open, and its run waits", open_step)
    leading.says(
        f"Open {leading.ui}/runs/flow-run/{first.run_id}",
        f"click [bold]Resume[/]: {first.title} is [bold]done[/], say what shows it, and your name.",
    )

    done = await leading.waits("you have answered", lambda: done_step(leading, first.id))
    leading.says(
        f"Done by {done.done_by}: {done.evidence}. The next steps are open; the graph shows all:",
        f"  {leading.ui}/runs/flow-run/{project}?tab=Graph",
        "It stays waiting until that customer is live. `implementation-abandon` ends it.",
    )


async def done_step(leading: Tour, step_id: str) -> Gate | None:
    async with leading.store.read() as session:
        step = await session.get_one(Gate, step_id)
    return step if step.status == "done" else None


async def step_of(leading: Tour, customer: str, name: str) -> Gate | None:
    """A step of the customer's implementation, once it is open and its run waits."""
    async with leading.store.read() as session:
        gate: Gate | None = await session.scalar(
            select(Gate)
            .join(Implementation, col(Implementation.id) == col(Gate.implementation_id))
            .join(Customer, col(Customer.id) == col(Implementation.customer_id))
            .where(
                col(Customer.name) == customer,
                col(Gate.gate) == name,
                col(Gate.status) == "open",
                col(Gate.run_id).is_not(None),
            )
            .limit(1)
        )
        return gate
