"""`linekeeper connection`: what Makini links to, by hand."""

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.cli.login import disconnect_command, link_command, login_command
from linekeeper.cli.terminal import who
from linekeeper.refusal import UserError

if TYPE_CHECKING:
    from linekeeper.makini import TokenPair
    from linekeeper.views.connections import ConnectionAnswer, ConnectionHistory

WIDE = 120
"""A terminal of fewer columns gets a shorter table; `--json` has all of it."""
LONGEST_KEY = 26
"""A key of so many characters stays on one line at 80 columns."""
REST = ("app", "setup", "health", "since", "last check")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Add, list, show, link and disconnect connections.",
)
app.command("link")(link_command)
app.command("login")(login_command)
app.command("disconnect")(disconnect_command)


@app.callback()
def _connection() -> None:
    """Add, list, show, link and disconnect connections."""


@app.command("add")
def add_command(
    *,
    key: Annotated[str, typer.Option(help="Makini's key of the connection.")],
    name: Annotated[str, typer.Option(help="What people call it, such as “Acme - SAP ECC”.")] = "",
    provider: Annotated[str, typer.Option(help="The system, such as “SAP ECC”.")] = "",
    app_name: Annotated[str, typer.Option("--app", help="The Makini app.")] = "default",
    tokens_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON with access_token, refresh_token and expires_in; - reads standard input. "
            "Without it the tokens are asked for.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Verify the token at Makini first.")
    ] = True,
) -> None:
    """Take over a connection with its token pair, or give a known one new tokens.

    A pair is Linekeeper's to renew from then on. Who gave it is in the audit.

    Tokens are never arguments: those stay in the shell's history and show in the process list.

    Examples:

      linekeeper connection add --key 1042 --name "Acme - SAP ECC"

      linekeeper connection add --key 1042 --tokens-file tokens.json

      vault read -format=json makini/1042 | linekeeper connection add --key 1042 --tokens-file -
    """
    pair = _asked() if tokens_file is None else _read(tokens_file)
    typer.echo(asyncio.run(_add(app_name, key, name, provider, pair, check=check)))


@app.command("list")
def list_command(
    health: Annotated[
        str | None, typer.Option(help="Only those with this health, such as unreachable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every connection with its setup and health.

    Examples:

      linekeeper connection list --health reauthorization_required

      linekeeper connection list --json
    """
    rows = sorted(asyncio.run(_list(health)), key=lambda row: (row.label, row.makini_key))
    if as_json:
        _echo_json([row.as_json() for row in rows])
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from linekeeper.text import state_name

    console, table = Console(highlight=False), Table()
    is_narrow = console.width < WIDE
    if is_narrow:
        longest = max((len(row.makini_key) for row in rows), default=0)
        table.add_column("connection, key", overflow="fold", min_width=min(longest, LONGEST_KEY))
    else:
        table.add_column("connection", overflow="fold")
        table.add_column("key", no_wrap=True, overflow="fold")
    for heading in ("setup", "health", "since (UTC)") if is_narrow else REST:
        if heading == "health":
            table.add_column(heading, min_width=15, max_width=15 if is_narrow else None)
        else:
            table.add_column(heading, overflow="fold")
    for row in rows:
        state = Text(state_name(row.health, row.evidence))
        since, checked = _time(row.health_since), _time(row.last_checked_at)
        label, key = Text(row.label), Text(row.makini_key, "dim")
        if is_narrow:
            since = since.removesuffix(" UTC")
            table.add_row(Text("\n").join([label, key]), row.setup, state, since)
        else:
            table.add_row(label, key, Text(row.app), row.setup, state, since, checked)
    console.print(table if rows else "no connection")


@app.command("show")
def show_command(
    connection: Annotated[
        str, typer.Argument(help="A name, “Customer · System”, tag, Makini's key or our id.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one connection and what happened to it last.

    Examples:

      linekeeper connection show "Acme · SAP ECC"

      linekeeper connection show 1042 --json
    """
    record = asyncio.run(_show(connection))
    if as_json:
        _echo_json(record.as_json())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from linekeeper.text import health_name

    table = Table(box=None, show_header=False)
    for name, value in record:
        if name != "history":
            shown = _time(value) if isinstance(value, datetime) else _plain(value)
            shown = health_name(shown) if name == "health" else shown
            table.add_row(name.replace("_", " "), Text(shown))
    console = Console(highlight=False)
    console.print(table)
    for step in record.history:
        before, after = health_name(step.before), health_name(step.after)
        line = f"{_time(step.at)}  {step.axis}: {before} → {after}"
        console.print(Text(f"{line} ({step.source})"))


def _asked() -> "TokenPair":
    from linekeeper.makini import TokenPair

    if not sys.stdin.isatty():
        raise UserError("there is no terminal to ask for the tokens: use --tokens-file -")
    access = typer.prompt("Access token", hide_input=True).strip()
    refresh = typer.prompt("Refresh token (may be empty)", hide_input=True, default="").strip()
    return TokenPair(access, refresh or None)


def _read(file: Path) -> "TokenPair":
    """The pair in a JSON file, in any shape Makini answers in."""
    import json

    from linekeeper.clock import utcnow
    from linekeeper.makini.models import WrongShape, parse_tokens

    name = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8-sig")
        return parse_tokens(json.loads(text), now=utcnow(), minted=False)
    except OSError as error:
        raise UserError(f"{name} can't be read: {(error.strerror or '').lower()}") from None
    except (ValueError, WrongShape):
        raise UserError(
            f'{name} holds no tokens: it should be JSON such as {{"access_token": "…", '
            '"refresh_token": "…", "expires_in": 2592000}'
        ) from None


async def _add(
    app_name: str, key: str, name: str, provider: str, pair: "TokenPair", *, check: bool
) -> str:
    from linekeeper.clock import utcnow
    from linekeeper.customers.adopt import adopt
    from linekeeper.customers.find import named_connections
    from linekeeper.makini import ListedConnection
    from linekeeper.makini.fields import KEY_LIMIT, clean, connection_key
    from linekeeper.makini.models import is_token
    from linekeeper.runtime import Runtime
    from linekeeper.store.tables import Audit
    from linekeeper.tokens.stored import own, save_tokens

    if not (key := connection_key(key)):
        raise UserError(f"--key is empty, or has over {KEY_LIMIT} characters: give Makini's key")
    name, provider = clean(name), clean(provider)
    if not is_token(pair.access_token):
        raise UserError("the access token is empty or has characters that no token has")
    async with Runtime.open() as rt:
        makini = await rt.app(app_name)
        if check:
            status = await rt.makini(makini).status(pair.access_token, connection=key)
            if status.id and status.id != key:
                raise UserError(
                    f"the token belongs to connection {status.id} ({status.company_name}), not to "
                    f"{key}: give that key, or --no-check if this app's keys are not its ids"
                )
            provider = provider or status.provider
            name = name or " - ".join(filter(None, (status.company_name, status.provider)))
        now = utcnow()
        async with rt.store.read() as session:
            known = {
                named.makini_key: named
                for named in await named_connections(session)
                if named.app == app_name
            }
        async with rt.store.write() as session:
            if key in known:
                identifier, label = known[key].id, known[key].label
            else:
                listed = ListedConnection(key=key, id=key, name=name, provider=provider)
                adopted = await adopt(rt.store, session, app_name, [listed], now=now)
                identifier, label = adopted.ids[key], adopted.new[0]
            await save_tokens(rt.store, session, {identifier: pair}, now=now)
            if pair.refresh_token is not None:
                await own(session, identifier)
            action = "connection.token_given" if key in known else "connection.added"
            detail = {"key": key, "verified": check}
            session.add(Audit(at=now, by=who(), action=action, subject=identifier, detail=detail))
    verified = "the token works" if check else "the token was not tried"
    return f"{label} (key {key}): {'new tokens stored' if key in known else 'added'}, {verified}"


async def _list(health: str | None) -> "list[ConnectionAnswer]":
    from linekeeper.health.evidence import Health
    from linekeeper.runtime import Runtime
    from linekeeper.views.connections import list_connections

    if health is not None and health not in (known := [each.value for each in Health]):
        raise UserError(f"there is no health {health!r}; there are {', '.join(known)}")
    async with Runtime.open() as rt, rt.store.read() as session:
        return await list_connections(session, health=health)


async def _show(wanted: str) -> "ConnectionHistory":
    from linekeeper.customers.find import find_connection
    from linekeeper.runtime import Runtime
    from linekeeper.views.connections import describe_connection

    async with Runtime.open() as rt, rt.store.read() as session:
        return await describe_connection(session, (await find_connection(session, wanted)).id)


def _echo_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _time(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC") if at else "never"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value in (None, "") else {True: "yes", False: "no"}.get(value, str(value))  # type: ignore[call-overload]
