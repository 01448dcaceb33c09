"""`linekeeper mode`: observe or manage, for an app, a tag, a customer or one connection."""

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.cli.terminal import who

if TYPE_CHECKING:
    from linekeeper.access.mode_preview import ModePreview

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Observe or manage: for an app, a tag, a customer or one connection.",
)

_Connections = Annotated[
    list[str] | None,
    typer.Option("--connection", help="A name, Customer · System, or key; may be repeated."),
]
_Customers = Annotated[
    list[str] | None, typer.Option("--customer", help="All systems of a customer, future ones too.")
]
_Tags = Annotated[list[str] | None, typer.Option("--tag", help="All connections with this tag.")]
_Apps = Annotated[list[str] | None, typer.Option("--app", help="All connections of this app.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
_Stop = Annotated[
    bool,
    typer.Option(
        "--stop-renewing",
        help="Also observe connections whose tokens Linekeeper renews; those tokens then expire.",
    ),
]


class _Mode(StrEnum):
    observe = "observe"
    manage = "manage"


@app.callback()
def _mode() -> None:
    """Which connections are observed, and which managed.

    The most specific rule counts: that of the connection, then of its customer, then of a tag (of
    two that disagree the cautious one), then of the app; without any, the settings of the app. It
    holds from the next decision on; nothing is restarted.
    """


@app.command("show")
def show_command(
    connection: Annotated[
        str | None,
        typer.Argument(metavar="[CONNECTION]", help="The connection whose mode is explained."),
    ] = None,
) -> None:
    """Show every rule, or which mode holds for a connection and why.

    Examples:

      linekeeper mode show

      linekeeper mode show "Acme · UpKeep"
    """
    for line in asyncio.run(_show(connection)):
        typer.echo(line)


@app.command("set")
def set_command(
    mode: Annotated[
        _Mode | None, typer.Argument(help="Left out: only --notify-customers is set.")
    ] = None,
    *,
    connection: _Connections = None,
    customer: _Customers = None,
    tag: _Tags = None,
    makini_app: _Apps = None,
    notify_customers: Annotated[
        bool | None,
        typer.Option(
            "--notify-customers/--no-notify-customers",
            help="Whether their customers are notified.",
        ),
    ] = None,
    dry_run: _DryRun = False,
    stop_renewing: _Stop = False,
) -> None:
    """Set the mode of some connections, or whether their customers are written to.

    Back to observe: give the tokens back first (`linekeeper tokens export`). Connections whose
    tokens Linekeeper still renews are refused, for nobody would renew them any more.

    Examples:

      linekeeper mode set manage --connection "Acme · UpKeep" --dry-run

      linekeeper mode set manage --tag pilot --notify-customers

      linekeeper mode set observe --customer Acme
    """
    typer.echo(
        asyncio.run(
            _change(
                (connection, customer, tag, makini_app),
                mode=mode.value if mode else None,
                notify_customers=notify_customers,
                dry_run=dry_run,
                stop_renewing=stop_renewing,
            )
        )
    )


@app.command("clear")
def clear_command(
    *,
    connection: _Connections = None,
    customer: _Customers = None,
    tag: _Tags = None,
    makini_app: _Apps = None,
    dry_run: _DryRun = False,
    stop_renewing: _Stop = False,
) -> None:
    """Take rules away, so that the less specific ones, or the app's settings, hold again.

    Examples:

      linekeeper mode clear --connection "Acme · UpKeep"
    """
    typer.echo(
        asyncio.run(
            _change(
                (connection, customer, tag, makini_app),
                clears=True,
                dry_run=dry_run,
                stop_renewing=stop_renewing,
            )
        )
    )


async def _show(connection: str | None) -> list[str]:
    from linekeeper.access.modes import standing_of
    from linekeeper.runtime import Runtime
    from linekeeper.store.modes import load_rules

    async with Runtime.open() as rt:
        if connection is not None:
            standing = await standing_of(rt, connection)
            written = "are" if standing.notify_customers else "are not"
            notified = f"{written} notified, by {standing.notify_by}"
            if standing.mode == "observe":
                notified = "are not notified while it is observed"
            return [
                f"{standing.label}: {standing.mode}, by {standing.mode_by}.",
                f"Its customers {notified}.",
            ]
        async with rt.store.read() as session:
            rules = await load_rules(session)
        apps = (await rt.configuration()).apps
    lines = [
        f"app {name}, by its settings: {app.mode}, {_notifies(app.notify_customers, app.mode)}"
        for name, app in sorted(apps.items())
    ]
    for rule in rules:
        said = [rule.mode] if rule.mode else []
        if rule.notify_customers is not None:
            said.append(_notifies(rule.notify_customers, rule.mode))
        lines.append(f"{rule.label}: {', '.join(said) or 'says nothing'} (set by {rule.by})")
    return lines


def _notifies(notify_customers: bool, mode: str | None) -> str:
    if not notify_customers:
        return "customers are not notified"
    return "customers are notified" if mode == "manage" else "customers are notified where managed"


async def _change(
    named: tuple[list[str] | None, ...],
    *,
    mode: str | None = None,
    notify_customers: bool | None = None,
    clears: bool = False,
    dry_run: bool,
    stop_renewing: bool,
) -> str:
    from linekeeper.access.modes import BadRule, WantedMode, change, find_subjects, preview_change
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime

    if not clears and mode is None and notify_customers is None:
        raise BadRule(
            "mode", "say observe or manage, or --notify-customers or --no-notify-customers"
        )
    connections, customers, tags, apps = (named_here or [] for named_here in named)
    async with Runtime.open() as rt:
        subjects = await find_subjects(
            rt, apps=apps, tags=tags, customers=customers, connections=connections
        )
        wanted = WantedMode(subjects, mode, notify_customers, clears)
        if dry_run:
            return _said(await preview_change(rt, wanted, now=utcnow()), done=False)
        seen = await change(rt, wanted, by=who(), now=utcnow(), stop_renewing=stop_renewing)
    return _said(seen, done=True)


def _said(seen: "ModePreview", *, done: bool) -> str:
    lines = seen.lines(done=done)
    if not done:
        lines.append("Nothing was changed.")
    return "\n".join(lines)
