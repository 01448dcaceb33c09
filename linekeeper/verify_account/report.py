"""The answers as JSON and as Markdown. Pure."""

from dataclasses import asdict
from typing import Any

from linekeeper.markdown import table, text
from linekeeper.verify_account.question import Verdict
from linekeeper.verify_account.service import Verification

SIGNS = {Verdict.seen_so: "✅", Verdict.seen_otherwise: "⚠️", Verdict.not_seen: "·"}


def as_data(found: Verification) -> dict[str, Any]:
    """What `linekeeper verify-account --json` prints."""
    return {
        "app": found.app,
        "complete": found.complete,
        "calls": found.calls,
        "recording": found.recording,
        "settings": {f"LINEKEEPER_{name}": value for name, value in found.settings.items()},
        "answers": [asdict(answer) for answer in found.answers],
    }


def counts(found: Verification) -> str:
    """`12 seen so, 3 seen otherwise, 9 not seen`."""
    return ", ".join(
        f"{sum(answer.verdict is verdict for answer in found.answers)} {verdict.value}"
        for verdict in Verdict
    )


def as_markdown(found: Verification) -> str:
    """The artifact `verify-account`."""
    order = [Verdict.seen_otherwise, Verdict.seen_so, Verdict.not_seen]
    rows = [
        (SIGNS[a.verdict], text(a.assumption, 100), a.verdict.value, text(a.evidence, 300))
        for a in sorted(found.answers, key=lambda answer: order.index(answer.verdict))
    ]
    answers = table(["", "Assumption", "On this account", "Evidence"], rows)
    settings = "\n".join(f"    LINEKEEPER_{name}={value}" for name, value in found.settings.items())
    rest = "" if found.complete else "\n\nNot everything was asked: run it again to go on."
    return (
        f"# What holds on the account of app {text(found.app)}\n\n{counts(found)}; "
        f"{found.calls} calls.{rest}\n\n{answers}\n\n"
        f"## Settings to use\n\n{settings or 'None was found.'}\n\n"
        f"The redacted recording is `{found.recording}`.\n"
    )
