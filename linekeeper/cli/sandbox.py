"""`linekeeper sandbox`: a Makini and a Slack on this machine.

It may differ from Makini's contract as an operator's account did: `linekeeper verify-account`
records, and each assumption that was seen otherwise has a quirk, or a setting, of the sandbox that
makes it be otherwise there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linekeeper.cli.guards import require_free_port
from linekeeper.cli.parts import require_sandbox
from linekeeper.refusal import UserError
from linekeeper.text import counted
from linekeeper.verify_account.question import AccountAnswer, Confirmation
from linekeeper.verify_account.recording import Exchange, of, read_recording
from linekeeper.verify_account.service import answer_all


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
    records: Annotated[int, typer.Option(min=0, help="Records per connection.")] = 200,
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
    from linekeeper.cli.sandbox import settings_of
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
        f"sandbox on http://{box.host}:{chosen}: {counted(connections, 'connection')}, "
        f"Slack on http://{box.host}:{chosen}/slack (Ctrl-C ends it)"
    )
    run(box)


if TYPE_CHECKING:
    from collections.abc import Sequence

_QUIRKS: Mapping[str, str] = {
    "token-expiry": "relative-expiry",
    "app-routes": "no-app-routes",
    "list-per-page": "per-page-ignored",
    "list-fields": "fields-renamed",
    "status-words": "status-renamed",
    "list-times": "times-coarse",
    "error-unauthorized": "errors-bare",
    "error-not-found": "unknown-is-400",
    "sync-status": "sync-renamed",
    "record-key": "keys-numbers",
    "record-times": "no-updated-at",
    "sort": "sort-ignored",
    "one-record": "no-single-record",
}
"""The quirk of a Makini that answered a question otherwise, by question."""


def settings_of(file: Path) -> dict[str, Any]:
    """The sandbox's settings that make it behave as recorded. Raises `UserError`."""
    try:
        exchanges = read_recording(file)
    except OSError as error:
        raise UserError(f"{file} can't be read: {(error.strerror or '').lower()}") from None
    if not exchanges:
        raise UserError(f"{file} is no recording of verify-account: nothing in it can be read")
    answers = {answer.question: answer for answer in answer_all(exchanges)}
    otherwise = {
        name: answer
        for name, answer in answers.items()
        if answer.verdict is Confirmation.seen_otherwise
    }
    quirks = {_QUIRKS[name] for name in otherwise if name in _QUIRKS}
    quirks |= set(_of_listings(otherwise, exchanges))
    if answers["list-links"].verdict is Confirmation.seen_so:
        quirks.add("links-whole")
    options: dict[str, Any] = {"quirks": frozenset(quirks)}
    if "list-paging" in otherwise and _has_cursors(exchanges):
        options["paging"] = "cursor"
    since = otherwise.get("changed-since")
    if since and _advised(since, "MAKINI_SINCE") == "modified_after":
        options["since"] = "modified_after"
    if "id-is-key" in otherwise:
        options |= {"distinct_ids": True, "listed_ids": False}
    if "login-keeps" in otherwise:
        options["login"] = "new"
    if "mint-keeps" in otherwise:
        options["mint_shape"] = "pair"
    if (limit := _advised(answers["rate-limit"], "MAKINI_PER_MINUTE")).isdigit():
        options["per_minute"] = int(limit)
        options["quirks"] |= {"limit-stated"}
    return options


def _of_listings(
    otherwise: Mapping[str, AccountAnswer], exchanges: "Sequence[Exchange]"
) -> list[str]:
    """Quirks that one question alone doesn't tell apart."""
    quirks = []
    if "list-total" in otherwise:
        listed = [exchange for exchange in exchanges if exchange.meta]
        has_total = any("total" in exchange.meta for exchange in listed)
        quirks.append("total-too-high" if has_total else "no-total")
    if "list-paging" in otherwise and not _has_cursors(exchanges):
        quirks.append("page-ignored")
    if "changed-since" in otherwise and not _advised(otherwise["changed-since"], "MAKINI_SINCE"):
        quirks.append("filter-ignored")
    return quirks


def _has_cursors(exchanges: "Sequence[Exchange]") -> bool:
    """Whether a list that was asked for by page came with a cursor."""
    bodies = [page.body for page in of(exchanges, "list/small") if isinstance(page.body, dict)]
    return any(body.get("next_cursor") or body.get("nextCursor") for body in bodies)


def _advised(answer: AccountAnswer, setting: str) -> str:
    return str(dict(answer.settings).get(setting, ""))
