"""`linekeeper customer`: who owns the systems."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.cli.terminal import require_phrase, who
from linekeeper.refusal import UserError
from linekeeper.text import counted

if TYPE_CHECKING:
    from linekeeper.customers.importing import ImportPlan
    from linekeeper.erasure import Erased

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Import or erase customers, and manage the links to their pages.",
)


@app.callback()
def _customer() -> None:
    """Import customers from a CSV file, and make or revoke the links to their own pages."""


@app.command("link")
def link_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The customer's name or id.")],
    *,
    revoke: Annotated[bool, typer.Option("--revoke", help="Revoke every existing link.")] = False,
) -> None:
    """Print the link to a customer's own page, and say when it was opened last.

    The page needs no login: pass the link on only to the customer. The same link is printed each
    time until it is revoked.

    Examples:

      linekeeper customer link Acme

      linekeeper customer link Acme --revoke
    """
    typer.echo(asyncio.run(_link(name, revoke=revoke)))


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="- reads standard input.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would happen.")
    ] = False,
) -> None:
    """Take over customers and their contacts; all of the file, or nothing if a line is wrong.

    The first line names the columns: name, contacts, time zone, locale, owner, critical, hosting,
    tier, new. Only the name is needed. Contacts are "Jo Doe <jo@acme.com>; ops@acme.com"; critical
    and new are yes or no; hosting is cloud, on-premises or self-hosted, tier I, II or III. An empty
    cell leaves what is there. The same file again changes nothing.

    Examples:

      linekeeper customer import customers.csv --dry-run

      linekeeper customer import customers.csv
    """
    data = _read(file)
    planned = asyncio.run(_import(data, dry_run=dry_run))
    if planned.problems:
        for problem in planned.problems:
            typer.echo(f"{file}: {problem}", err=True)
        raise UserError(f"{file} was not imported: correct what is said above")
    for step in planned.create:
        typer.echo(f"+ {step}")
    for step in planned.change:
        typer.echo(f"~ {step}")
    would = "would be " if dry_run else ""
    typer.echo(
        f"{counted(len(planned.create), 'customer')} {would}created, "
        f"{len(planned.change)} {would}changed, {planned.unchanged} as they were"
    )
    if planned.without_contact:
        typer.echo(f"without a contact: {', '.join(planned.without_contact)}")


@app.command("erase")
def erase_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The full name, exactly as it is written.")
    ],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be erased.")
    ] = False,
    confirm: Annotated[
        str,
        typer.Option(metavar="NAME", help="The name again; at a terminal you are asked."),
    ] = "",
) -> None:
    """Forget a customer: people, mails and names go, the numbers stay. There is no undo.

    Contacts are deleted; names in audit, incidents and messages become a pseudonym; bodies of
    webhooks and records are emptied; what waits to be mailed is not sent. At a terminal the name is
    asked for again; in a script it is done at once.

    Examples:

      linekeeper customer erase "Acme" --dry-run

      linekeeper customer erase "Acme" --confirm "Acme"
    """
    if not dry_run:
        asyncio.run(_erase(name, dry_run=True))  # a name that nobody has is said before the phrase
        require_phrase(name.strip(), confirm, what=f"This forgets {name.strip()} for good")
    erased = asyncio.run(_erase(name, dry_run=dry_run))
    would = "would be " if dry_run else ""
    typer.echo(
        f"{counted(erased.contacts, 'contact')} {would}deleted, "
        f"{counted(erased.texts, 'text')} {would}changed, "
        f"{counted(erased.bodies, 'body')} {would}emptied, "
        f"{counted(erased.connections, 'connection')} {would}renamed"
    )
    if not dry_run:
        typer.echo(f"It is called “{erased.label}” from now on.")
        typer.echo(
            "Messages in Slack, runs and pages in Prefect, and backups made before this keep the "
            "name: delete them there. Whoever restores such a backup erases the customer again."
        )
    if erased.live:
        are = "is" if erased.live == 1 else "are"
        typer.echo(
            f"{erased.live} of its connections {are} not disconnected: what Makini calls them "
            "comes back with its list. Disconnect them first, or rename them there.",
            err=True,
        )


async def _erase(name: str, *, dry_run: bool) -> "Erased":
    from linekeeper.clock import utcnow
    from linekeeper.erasure import erase_customer
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        return await erase_customer(rt.store, name, by=who(), now=utcnow(), dry_run=dry_run)


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return typer.get_binary_stream("stdin").read()
    if file.is_dir():
        raise UserError(f"{file} is a folder, not a CSV file")
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} can't be read: {(error.strerror or '').lower()}") from None


async def _import(data: bytes, *, dry_run: bool) -> "ImportPlan":
    from linekeeper.clock import utcnow
    from linekeeper.customers.importing import import_customers
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        return await import_customers(rt.store, data, by=who(), now=utcnow(), dry_run=dry_run)


async def _link(name: str, *, revoke: bool) -> str:
    from linekeeper.clock import utcnow
    from linekeeper.customer_page.links import give_link, revoke_link
    from linekeeper.runtime import Runtime
    from linekeeper.text import counted

    async with Runtime.open() as rt:
        if revoke:
            ended = await revoke_link(rt.store, name, by=who(), now=utcnow())
            return f"{ended.customer}: {counted(ended.links, 'link')} revoked"
        public_url = rt.settings.resolved_public_url
        link = await give_link(rt.store, public_url, name, by=who(), now=utcnow())
    return f"{link.customer}: {link.seen}\n{link.url}"
