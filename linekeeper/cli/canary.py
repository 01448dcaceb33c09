"""`linekeeper canary`: one signed synthetic event through the public address. No database."""

from pathlib import Path
from typing import Annotated

import typer

from linekeeper.canary.probe import (
    KEY,
    TIMEOUT_SECONDS,
    BadOrder,
    as_json,
    fly,
    read_secret,
    take_order,
)


def canary_command(
    *,
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="The public address, or …/webhooks/APP."),
    ] = None,
    secret_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Otherwise LINEKEEPER_MAKINI_WEBHOOK_SECRETS or .env is read."
        ),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="makini or standard. Otherwise LINEKEEPER_MAKINI_WEBHOOK_SCHEME or .env is read.",
        ),
    ] = None,
    key_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Otherwise LINEKEEPER_KEY is read.")
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Wait until it is processed and handed on; needs a key."
        ),
    ] = 0.0,
    echo: Annotated[
        bool, typer.Option("--echo", help="Wait for the product's echo too (POST /api/canary).")
    ] = False,
    api_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where /api is, if not at URL.")
    ] = None,
    ca_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Your own certificate authority, PEM.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="For each connection and answer.")
    ] = TIMEOUT_SECONDS,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the canary as one Python file instead, to copy."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send a signed synthetic event the way Makini's go; exit 1 with the reason if it fails.

    Secrets come from the environment or a file, never as arguments.

    Examples:

      linekeeper canary https://linekeeper.example.com

      linekeeper canary https://linekeeper.example.com --wait 30 --key-file canary.key --json
    """
    if bundle is not None:
        _write(bundle)
        return
    try:
        if url is None:
            raise BadOrder("give the public address, such as https://linekeeper.example.com")
        secret, configured = _secret(secret_file)
        order = take_order(
            url,
            secret=secret,
            scheme=scheme or configured,
            timeout=timeout,
            ca_file=ca_file,
            wait=wait,
            key=read_secret(key_file, KEY) if wait else "",
            api_url=api_url,
            echo=echo,
        )
    except BadOrder as error:
        typer.echo(f"linekeeper canary: {error}", err=True)
        raise typer.Exit(1) from None
    report = fly(order)
    typer.echo(as_json(report) if json else report.text, err=not (report.ok or json))
    if not report.ok:
        raise typer.Exit(1)


def _secret(file: str | None) -> tuple[str, str]:
    """The webhook secret, and the scheme it signs by. Raises `BadOrder`."""
    from linekeeper.settings import Settings

    settings = Settings()
    configured = ",".join(secret.get_secret_value() for secret in settings.makini_webhook_secrets)
    secret = configured if file is None else read_secret(file, "")
    return secret, settings.makini_webhook_scheme


def _write(path: Path) -> None:
    from linekeeper.canary import probe

    try:
        path.write_text(Path(probe.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        typer.echo(f"linekeeper canary: {path} can't be written: {error.strerror}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Wrote {path}. Run it with: python3 {path} URL --secret-file FILE (Python 3.11)")
