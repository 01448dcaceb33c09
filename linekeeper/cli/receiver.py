"""`linekeeper receiver`: the HTTP side alone, in the foreground."""

from typing import Annotated

import typer


def receiver_command(
    *,
    workers: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="How many processes share the port.")
    ] = 1,
) -> None:
    """Take webhooks until Ctrl-C or SIGTERM; each is durable before it is answered."""
    from linekeeper.event_loop import run
    from linekeeper.logs import set_up
    from linekeeper.receiver import serve
    from linekeeper.receiver.workers import supervise
    from linekeeper.settings import Settings
    from linekeeper.store import KeyProblem, StoreError

    settings = Settings()
    set_up(settings.log_format)
    try:
        with serve.listening(settings) as listener:

            def ready() -> None:
                url = serve.address(listener)
                typer.echo(f"ready {url} (webhooks: {url}/webhooks/<app>)")

            if workers == 1:
                run(serve.until_stopped(settings, listener, ready))
            else:
                run(supervise(settings, listener, ready, workers=workers))
    except (KeyProblem, StoreError, serve.PortTaken) as error:
        typer.echo(f"linekeeper receiver: {error}", err=True)
        raise typer.Exit(1) from None
