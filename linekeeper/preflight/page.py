"""The artifact `preflight`: the verdicts of one run. Pure."""

from collections.abc import Sequence

from linekeeper.markdown import literal, table
from linekeeper.preflight.evidence import NamedTarget
from linekeeper.preflight.run import PreflightVerdicts
from linekeeper.preflight.verdict import NOT_VERIFIED, VERIFIES


def preflight_markdown(reports: Sequence[PreflightVerdicts], through: Sequence[NamedTarget]) -> str:
    """The page; `through` are the places behind a VPN tunnel among its targets."""
    parts = ["# Preflight"]
    for report in reports:
        parts.append(f"## From {report.vantage}, {report.at:%Y-%m-%d %H:%M} UTC")
        parts.append(f"It can show {VERIFIES[report.vantage]}.")
        rows = [
            (
                "**finding**" if verdict.status == "finding" else verdict.status,
                literal(verdict.target),
                verdict.check,
                literal(verdict.message),
            )
            for verdict in report.verdicts
        ]
        parts.append(table(["", "Target", "Check", "What was seen"], rows))
    if through:
        named = ", ".join(
            f"{literal(system.label)} ({literal(system.target or '')})" for system in through
        )
        parts.append(
            f"Through a VPN tunnel: {named}. *allowlisted* means from the tunnel's end at Makini's "
            "side, or an address allowed like it; from outside nothing may be open for anybody, "
            "Makini's public addresses included."
        )
    parts.append(NOT_VERIFIED)
    return "\n\n".join(parts) + "\n"
