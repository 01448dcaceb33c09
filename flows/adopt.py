"""Import Makini's connections."""

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import MarkdownArtifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.customers.adopt import Adoption
from linekeeper.customers.matching import same_customers
from linekeeper.makini import MakiniError
from linekeeper.sweep.sweep import preview_list
from linekeeper.text import sentences
from linekeeper.views.adoption_page import adoption_markdown
from tasks.health import list_connections
from tasks.run import open_runtime, refused, rename


@flow(name="adopt", flow_run_name="adopt", retries=0)
@form
async def adopt(
    dry_run: Annotated[
        bool,
        Field(title="Dry run", description="Only say what would be adopted; write nothing"),
    ] = True,
    app: Annotated[
        str | None,
        Field(title="App", description="One Makini app by name; empty: all of them"),
    ] = None,
    accept_missing: Annotated[
        bool,
        Field(
            title="Accept what is missing",
            description="Connections that the list lacks are gone for good: disconnect them now, "
            "and open no incident. By itself a sweep does so only after two lists, as an incident, "
            "and never where the list looks truncated",
        ),
    ] = False,
) -> State[None]:
    """Make customers and connections that Makini lists and we don't know; update names.

    Nothing is changed at Makini. Running it again changes nothing.
    """
    async with open_runtime() as rt:
        apps = (await rt.configuration()).apps
        wanted = (app or "").strip()
        if wanted and wanted not in apps:
            known = ", ".join(sorted(apps)) or "none is configured"
            return refused("app", f"there is no Makini app {wanted!r}", f"Known: {known}.")
        names = [wanted] if wanted else sorted(apps)
        if not names:
            return Failed(message="No Makini app is configured: fill in a MakiniApp block")
        total, troubles = Adoption(), []
        for name in names:
            try:
                if dry_run:
                    total.add(await preview_list(rt, await rt.app(name), now=utcnow()))
                else:
                    adoption = await list_connections(name, utcnow(), accept_missing=accept_missing)
                    total.add(adoption)
            except MakiniError as error:
                troubles.append(str(error))
        async with rt.store.read() as session:  # also of those that a sweep has adopted
            open_questions = await same_customers(session)
        total.alike = list(dict.fromkeys((*total.alike, *open_questions)))
        await MarkdownArtifact(
            key="adopt",
            description="The last adoption",
            markdown=adoption_markdown(total, dry_run=dry_run),
        ).acreate()
        would = "would be " if dry_run else ""
        summary = (
            f"{len(total.new)} {would}adopted, {len(total.changed)} {would}changed, "
            f"{total.known} known"
        )
        get_run_logger().info(summary)
        await rename(f"adopt · {'dry run · ' if dry_run else ''}{summary}")
        if total.alike:
            summary += f". Please answer: {sentences(total.alike, 3)}"
        if troubles:
            return Failed(message="; ".join(troubles))
        if total.truncated:
            summary += (
                f". {total.truncated} If they are gone for good, run this again with Accept what "
                "is missing"
            )
        return Completed(message=summary)
