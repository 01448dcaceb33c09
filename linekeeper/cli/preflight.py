"""`linekeeper preflight`: network checks that a customer's IT can run. Needs no database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from linekeeper.preflight.run import PreflightVerdicts

STYLES = {"ok": "green", "warning": "yellow", "finding": "bold red", "skipped": "dim"}


def preflight_command(
    *,
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="TARGET... | import FILE", help="host:port or URL."),
    ] = None,
    vantage: Annotated[
        str, typer.Option(metavar="inside|allowlisted|outside", help="Where this machine is.")
    ] = "inside",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="For each check.")] = 5.0,
    ca_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Your own certificate authority, PEM.")
    ] = None,
    control: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help=(
                "From outside: an address that is open, to verify that this machine reaches the "
                "internet."
            ),
        ),
    ] = "api.makini.io:443",
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write preflight as one Python file instead, to send."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check DNS, TCP, TLS, HTTP and clock of each TARGET; exit 1 if anything is found.

    `import FILE` instead keeps the JSON that a customer's IT sent as evidence; - reads standard
    input. It moves on the implementations that wait for it.

    Examples:

      linekeeper preflight erp.acme.example:44300 --vantage inside --json > inside.json

      linekeeper preflight import inside.json
    """
    if targets is not None and targets[:1] == ["import"]:
        _import(targets[1:])
        return
    if bundle is not None:
        _write_bundle(bundle)
        return
    import asyncio

    from linekeeper.preflight.order import OrderError, take_order
    from linekeeper.preflight.run import as_json as to_json
    from linekeeper.preflight.run import preflight

    try:
        order = take_order(targets or [], vantage, timeout, ca_file, control)
    except OrderError as error:
        raise _refused(str(error)) from None
    report = asyncio.run(preflight(order))
    if as_json:
        typer.echo(to_json(report))
    else:
        _show(report)
    if report.findings:
        raise typer.Exit(1)


def _import(files: list[str]) -> None:
    import asyncio

    from linekeeper.preflight.intake import ReportError, parse_report

    if len(files) != 1:
        raise _refused("import: give one file, or - for standard input")
    try:
        report = parse_report(_read(files[0]))
        new, lines = asyncio.run(_keep(report))
    except ReportError as error:
        raise _refused(f"import: {files[0]}: {error}") from None
    _show(report)
    typer.echo(f"{new} of {len(report.targets)} targets are new evidence")
    for line in lines:
        typer.echo(line)


def _read(file: str) -> bytes:
    from linekeeper.preflight.intake import MAX_BYTES

    if file == "-":
        return typer.get_binary_stream("stdin").read(MAX_BYTES + 1)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refused(f"import: {file} can't be read: {error.strerror}") from None


async def _keep(report: "PreflightVerdicts") -> tuple[int, list[str]]:
    from linekeeper.cli.terminal import who
    from linekeeper.clock import utcnow
    from linekeeper.implementation.watch import take_report
    from linekeeper.preflight.evidence import unowned_targets
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        new, moved = await take_report(rt.store, report, by=who(), now=utcnow())
        unknown = await unowned_targets(rt.store, report)
    lines = [
        f"{progress.standing.implementation.title}: forecast go-live {progress.outlook.p50} (P50)"
        for progress in moved
    ]
    return new, [*lines, *([unknown] if unknown else [])]


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


def _show(report: "PreflightVerdicts") -> None:
    from rich.console import Console
    from rich.text import Text

    from linekeeper.preflight.run import as_text

    console = Console(highlight=False)
    for line in as_text(report).splitlines():
        status = line[2:].split(" ", 1)[0] if line.startswith("  ") else ""
        console.print(Text(line, style=STYLES.get(status, "")), soft_wrap=True)
