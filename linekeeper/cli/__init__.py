"""The `linekeeper` command: wires the parts together; the one place that may know them all.

A command's module is imported when the command runs, so that `linekeeper --help` answers at once.
"""

import os
import sys
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from linekeeper import __version__
from linekeeper.garbage import collect_seldom
from linekeeper.private import keep_new_files_private

_RUNNING, _SETTING_UP, _LOOKING = "Running", "Setting up", "Looking"
_FLEET = "Customers and connections"
COMMANDS = {
    "up": (_RUNNING, "Start everything on this machine."),
    "demo": (_RUNNING, "Take a guided tour of fifteen minutes, while up and its sandbox run."),
    "receiver": (_RUNNING, "Run the receiver, the HTTP side, alone."),
    "consumer": (_RUNNING, "Run the service that applies webhooks and sends messages, alone."),
    "sandbox": (_RUNNING, "Run a Makini and a Slack on this machine."),
    "migrate": (_SETTING_UP, "Bring the database's schema up to date."),
    "deploy": (_SETTING_UP, "Seed pool, blocks, deployments and automations; show differences."),
    "backup": (_SETTING_UP, "Write everything into one file."),
    "restore": (_SETTING_UP, "Put a backup into an empty database."),
    "status": (_LOOKING, "Show fleet, incidents, inbox, implementations, and what waits."),
    "first-report": (_LOOKING, "Write a first report of what was found, for a meeting."),
    "availability": (_LOOKING, "Show the availability in a month: minutes by what was waited for."),
    "audit": (_LOOKING, "Show who did what."),
    "explain": (_LOOKING, "Follow a record or message through every hop; name the missing one."),
    "canary": (_LOOKING, "Send a synthetic event through the public address; say what fails."),
    "doctor": (_LOOKING, "Check every setting and peer, and say what to fix."),
    "verify-account": (_LOOKING, "Find out which assumptions about Makini hold on your account."),
    "connection": (_FLEET, "Add, list, show, link and disconnect connections."),
    "mode": (_FLEET, "Show and set which connections are observed, and which managed."),
    "customer": (_FLEET, "Import or erase customers, and manage the links to their pages."),
    "key": (_FLEET, "Make, list and revoke the product's keys."),
    "tokens": (_FLEET, "Take tokens from the product, or give all of them back."),
    "rotate-keys": (_SETTING_UP, "Encrypt all tokens and settings again, with the first key."),
    "records": (_FLEET, "Export the index of records, or purge it."),
    "plan": (_FLEET, "Show what an implementation would look like."),
    "preflight": (_FLEET, "Check the network from here to a customer's system."),
}
"""Each is `<name>_command`, or a Typer `app`, in `linekeeper.cli.<name>` (`-` is `_` there)."""


class _Group(TyperGroup):
    """Loads the command that is called; the overview needs none of them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        # typer carries a click of its own, whose types are private: hence Any.
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name in COMMANDS else command, rest


app = typer.Typer(
    name="linekeeper",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _load(name: str) -> Any:
    """The command called `name`, with its options."""
    called = name.replace("-", "_")
    module = import_module(f"{__name__}.{called}")
    loaded: typer.Typer | None = getattr(module, "app", None)
    if loaded is None:
        loaded = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        loaded.command(name)(getattr(module, f"{called}_command"))
    command = typer.main.get_command(loaded)
    for each in (command, *getattr(command, "commands", {}).values()):
        each.help = _flowing(each.help or "")
    return command


def _flowing(text: str) -> str:
    """A help text whose paragraphs break where the terminal ends, not where the source does."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(
        paragraph if paragraph.startswith(" ") else paragraph.replace("\n", " ")
        for paragraph in paragraphs
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"linekeeper {__version__}")
        raise typer.Exit


@app.callback()
def _linekeeper(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Keep Makini connections live: implementation, health, webhooks, reconnection.

    `linekeeper up` starts everything on this machine.

    Settings are LINEKEEPER_… in the environment or in a .env file.
    """


def _seen_in_the_overview() -> None:
    """Stands in for a command until it is called."""


for _name, (_panel, _help) in COMMANDS.items():
    app.command(_name, help=_help, rich_help_panel=_panel)(_seen_in_the_overview)


def _spare_loopback() -> None:
    """Ask no proxy of the environment for this machine, here and in every process started here.

    Prefect's client would otherwise look for Prefect's server in the proxy's network.
    """
    spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if spared.strip() == "*" or not any(name.lower().endswith("_proxy") for name in os.environ):
        return
    hosts = [host.strip() for host in spared.split(",") if host.strip()]
    hosts += [host for host in ("localhost", "127.0.0.1", "::1") if host not in hosts]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)


def main() -> None:
    """Run the command line. An error a user can fix is one line on stderr and exit code 1."""
    keep_new_files_private()
    collect_seldom()
    _spare_loopback()
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's client asks no command's user
    try:
        app(prog_name="linekeeper")
    except Exception as error:
        from linekeeper.cli.errors import explain

        line = explain(error)
        if line is None:
            raise
        typer.echo(f"linekeeper: {line}", err=True)
        sys.exit(1)
