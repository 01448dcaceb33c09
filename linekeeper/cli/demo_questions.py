"""Two chapters of `linekeeper demo`: a customer asks where a record is, and is asked something."""

from sqlalchemy import select
from sqlmodel import col

from linekeeper.cli.demo_chapters import done_step, first_read, step_of
from linekeeper.cli.demo_tour import Tour
from linekeeper.clock import utcnow
from linekeeper.customer_page.links import give_link
from linekeeper.explain.render import KEY as EXPLANATION
from linekeeper.notify.channels import with_artifacts
from linekeeper.notify.view import Links
from linekeeper.orchestrator import RunRequest
from linekeeper.store import new_id
from linekeeper.store.tables import Change, Gate

BY = "linekeeper demo"


async def explain(leading: Tour, count: str) -> None:
    """Where is a record? Followed until the missing hop was named."""
    connection, name = (await leading.undisturbed())[0]
    await first_read(leading, connection.id, name)
    now = utcnow()
    made = await leading.control(
        "records", connection=connection.makini_key, change=1, announce=False
    )
    [(entity, key)] = [
        (entity, keys["changed"][0])
        for entity, keys in made["records"][connection.makini_key].items()
        if keys["changed"]
    ]
    leading.says(
        "",
        f"[bold]{count} · Where is it?[/]",
        f"Record {key} of {entity} changes at {name}, and no webhook says so. Your product learns "
        "of it late, and the customer asks why.",
    )
    run = RunRequest(
        "reconcile",
        idempotency_key=f"demo:reconcile:{new_id()}",
        parameters={"connections": [connection.makini_key]},
    )
    await leading.orchestrator.start_run(run)

    async def recovered() -> Change | None:
        async with leading.store.read() as session:
            change: Change | None = await session.scalar(
                select(Change)
                .where(
                    col(Change.connection_id) == connection.id,
                    col(Change.entity) == entity,
                    col(Change.key) == key,
                    col(Change.at) >= now,
                )
                .limit(1)
            )
            return change

    await leading.waits("a poll has found the change", recovered)
    links = await leading.orchestrator.find_links()
    form = links.form("explain", {"subject": f"{name} {key}"})
    leading.says(
        f"“Where is {key}?” Ask Linekeeper: open this form and click [bold]Submit[/]:",
        f"  {form}",
        f'(The same in a shell: linekeeper explain "{name} {key}")',
    )

    async def named() -> str | None:
        return await leading.orchestrator.find_run_name("explain", key, since=now)

    answer = await leading.waits("the hop that is missing is named", named)
    pages = await with_artifacts(leading.store, Links(leading.ui), [EXPLANATION])
    leading.says(
        f"[bold]{answer}[/]",
        "Every other hop is there with its time and its evidence, and what to do next:",
        f"  {pages.artifact(EXPLANATION)}",
    )


async def page(leading: Tour, count: str) -> None:
    """The customer's own page: a requirement is ticked, and the step moves."""
    customer = f"Demo {new_id()[-4:]}"
    leading.says(
        "",
        f"[bold]{count} · The customer's page[/]",
        f"{customer} has an on-premises SAP. Its network has to be prepared, by their own IT.",
    )
    system = {"name": "SAP ECC", "hosting": "on-premises", "target": "sap.demo.example:443"}
    parameters = {
        "customer": customer,
        "systems": [system],
        "kickoff": utcnow().date().isoformat(),
        "by": BY,
    }
    run = RunRequest("implementation", idempotency_key=f"demo:{customer}", parameters=parameters)
    project = await leading.orchestrator.start_run(run)

    async def kickoff() -> Gate | None:
        return await step_of(leading, customer, "kickoff")

    first = await leading.waits("the implementation has begun", kickoff)
    assert first.run_id is not None  # as it was looked for
    evidence = {"outcome": "done", "evidence": "minutes of the kickoff", "by": BY}

    async def preparing() -> Gate | None:
        step = await step_of(leading, customer, "network")
        if step is None:  # its form may not be there yet: resuming is harmless
            await leading.orchestrator.resume_run(first.run_id or "", evidence)
        return step

    network = await leading.waits("the kickoff is done, and it is the customer's turn", preparing)
    url = leading.settings.resolved_public_url
    link = await give_link(leading.store, url, customer, by=BY, now=utcnow())
    leading.says(
        "Now be the customer's IT. Open their own page; no login is needed:",
        f"  {link.url}",
        f"At {network.title}: tick [bold]This is done[/], and click [bold]Save[/].",
    )

    ticked = "the requirement is ticked, and the step is done"
    done = await leading.waits(ticked, lambda: done_step(leading, network.id))
    leading.says(
        f"Done by {done.done_by}: {done.evidence}",
        "The next step has opened by that. The graph shows it:",
        f"  {leading.ui}/runs/flow-run/{project}?tab=Graph",
        "Nobody had to log in anywhere, or to write a mail.",
    )
