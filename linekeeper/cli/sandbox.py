"""`linekeeper sandbox`: a Makini and a Slack on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from linekeeper.cli.errors import UserError
from linekeeper.cli.guards import require_free_port
from linekeeper.cli.parts import require_sandbox


def sandbox_command(
    *,
    connections: Annotated[
        int, typer.Option(min=0, help="How many connections the fleet has.")
    ] = 24,
    scenario: Annotated[
        str,
        typer.Option(metavar="demo|quiet", help="demo: things go wrong and right by themselves."),
    ] = "demo",
    seed: Annotated[int, typer.Option(help="The same seed gives the same fleet.")] = 1,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Default: LINEKEEPER_SANDBOX_PORT, or 8643."),
    ] = None,
    records: Annotated[int, typer.Option(min=0, help="Records a connection.")] = 200,
    webhook_url: Annotated[
        str | None,
        typer.Option(
            help="Where webhooks go, such as http://127.0.0.1:8642/webhooks/default; "
            "none are sent without."
        ),
    ] = None,
    actions_url: Annotated[
        str | None, typer.Option(help="Where the buttons of the Slack page post to.")
    ] = None,
    demo_speed: Annotated[
        float, typer.Option(help="Scripted seconds of the demo in one real second.")
    ] = 1.0,
    per_minute: Annotated[
        int, typer.Option(min=0, help="Calls a minute before it answers 429; 0 = no limit.")
    ] = 0,
    state: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="A file in which tokens, records and messages outlive a restart; "
            "nothing is kept without.",
            show_default=False,
        ),
    ] = None,
    latency_ms: Annotated[float, typer.Option(min=0, help="Added to every answer.")] = 0.0,
    recording: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="A recording of `linekeeper verify-account`: behave as that account did.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a Makini and a Slack on this machine, with a fleet and faults on demand.

    Foreground, loopback only. Faults: POST /_control/…; the Slack page: /slack.

    Examples:

      linekeeper sandbox

      linekeeper sandbox --connections 500 --scenario quiet --port 9000

      linekeeper sandbox --recording .linekeeper/verify-account/default.jsonl
    """
    from linekeeper.cli.sandbox_recording import settings_of
    from linekeeper.settings import Settings

    require_sandbox()
    from sandbox import Settings as Sandbox
    from sandbox import run

    if scenario not in ("demo", "quiet"):
        raise typer.BadParameter("it is demo or quiet", param_hint="--scenario")
    chosen = Settings().sandbox_port if port is None else port
    like = settings_of(recording) if recording is not None else {}
    try:
        box = Sandbox(
            port=chosen,
            connections=connections,
            records_per_connection=records,
            seed=seed,
            scenario="demo" if scenario == "demo" else "quiet",
            demo_speed=demo_speed,
            webhook_url=webhook_url,
            slack_actions_url=actions_url,
            latency_ms=latency_ms,
            state_path=state,
            **{"per_minute": per_minute, **like},
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    require_free_port(box.host, chosen, "SANDBOX_PORT", "the sandbox")
    typer.echo(
        f"sandbox on http://{box.host}:{chosen}: {connections} connections, "
        f"Slack on http://{box.host}:{chosen}/slack (Ctrl-C ends it)"
    )
    run(box)
