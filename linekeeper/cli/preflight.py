"""`linekeeper preflight`: network checks that a customer's IT can run. Needs no database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from linekeeper.preflight.report import Report

STYLES = {"ok": "green", "warning": "yellow", "finding": "bold red", "skipped": "dim"}


def preflight_command(
    *,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET...", help="host:port or URL.")
    ] = None,
    vantage: Annotated[
        str, typer.Option(metavar="inside|allowlisted|outside", help="Where this machine is.")
    ] = "inside",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="For each check.")] = 5.0,
    ca_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Your own certificate authority, PEM.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write preflight as one Python file instead, to send."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check DNS, TCP, TLS, HTTP and clock of each TARGET; exit 1 if anything is found."""
    if bundle is not None:
        _write_bundle(bundle)
        return
    import asyncio

    from linekeeper.preflight.order import OrderError, take_order
    from linekeeper.preflight.report import as_json as to_json
    from linekeeper.preflight.run import preflight

    try:
        order = take_order(targets or [], vantage, timeout, ca_file)
    except OrderError as error:
        raise _refused(str(error)) from None
    report = asyncio.run(preflight(order))
    if as_json:
        typer.echo(to_json(report))
    else:
        _show(report)
    if report.findings:
        raise typer.Exit(1)


def _write_bundle(path: Path) -> None:
    from linekeeper.preflight.bundle import write_bundle

    try:
        write_bundle(path)
    except OSError as error:
        raise _refused(f"bundle: {path} can't be written: {error.strerror}") from None
    typer.echo(f"Wrote {path}. Run it with: python3 {path} TARGET... --json (Python 3.11 or newer)")


def _refused(reason: str) -> typer.Exit:
    typer.echo(f"linekeeper preflight: {reason}", err=True)
    return typer.Exit(2)


def _show(report: "Report") -> None:
    from rich.console import Console
    from rich.text import Text

    from linekeeper.preflight.report import as_text

    console = Console(highlight=False)
    for line in as_text(report).splitlines():
        status = line[2:].split(" ", 1)[0] if line.startswith("  ") else ""
        console.print(Text(line, style=STYLES.get(status, "")), soft_wrap=True)
