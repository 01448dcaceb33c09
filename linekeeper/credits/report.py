"""The artifact `credits` as Markdown. Pure."""

from datetime import datetime

from linekeeper.credits.service import Ledger
from linekeeper.markdown import literal

MOST_LEAKS = 200


def credits_markdown(ledger: Ledger, now: datetime, *, app: str | None = None) -> str:
    """The ledger, the need by week and the leaks."""
    own = ledger.balance
    bought = str(own.granted) if ledger.known else "not said"
    left = str(own.available) if ledger.known else "—"
    lines = [
        f"# Connection credits{f' of {literal(app)}' if app else ''} (estimate)",
        "Makini publishes no balance: these figures are our own, checked each night against the "
        f"list of connections. As of {now:%Y-%m-%d %H:%M} UTC.",
        "| Bought | Reserved | Taken | Available |\n|--:|--:|--:|--:|\n"
        f"| {bought} | {own.reserved} | {own.consumed} | {left} |",
    ]
    if not ledger.known:
        lines.append(
            "Nobody has said how many credits were bought, so nothing is refused for lack of "
            "them. Say so in the form of the deployment `credits`."
        )
    coming = [week for week in ledger.weeks if week.need]
    lines.append("## What the implementations will need")
    if coming:
        table = "| Week from | Credits | Left |\n|---|--:|--:|"
        for week in coming:
            left_then = str(week.left) if ledger.known else "—"
            short = " **short**" if ledger.known and week.left < 0 else ""
            table += f"\n| {week.monday} | {week.need} | {left_then}{short} |"
        lines.append(table)
    else:
        lines.append("Nothing is planned.")
    lines.append("## Credits that do nothing")
    if ledger.leaks:
        table = "| Why | Credits | Connection |\n|---|--:|---|"
        for leak in ledger.leaks[:MOST_LEAKS]:
            table += f"\n| {leak.kind} | {leak.credits} | {literal(leak.message)} |"
        if len(ledger.leaks) > MOST_LEAKS:
            table += f"\n| … | | and {len(ledger.leaks) - MOST_LEAKS} more |"
        lines.append(table)
    else:
        lines.append("None found.")
    return "\n\n".join(lines) + "\n"
