"""The artifact `credits` as Markdown. Pure."""

from collections.abc import Sequence
from datetime import datetime

from linekeeper.credits.decide import Leak
from linekeeper.credits.service import Ledger
from linekeeper.markdown import literal
from linekeeper.text import counted

MOST_LEAKS = 200


def credits_markdown(ledger: Ledger, now: datetime, *, app: str | None = None) -> str:
    """The ledger, the need by week, what costs and does nothing, and what is not counted yet."""
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
    idle = [leak for leak in ledger.leaks if leak.kind in ("duplicate", "inactive")]
    lines.append(_table(idle) if idle else "None found.")
    uncounted = [leak for leak in ledger.leaks if leak.kind == "not in ledger"]
    gone = [leak for leak in ledger.leaks if leak.kind == "not at Makini"]
    if uncounted or gone:
        lines += [
            "## Not in step with Makini's list yet",
            "The figures above follow the list with the next run of the deployment `credits`, "
            "each night or when you start it.",
        ]
    if uncounted:
        lines.append(
            f"To be taken: {_sum_of(uncounted)} that are connected.\n\n{_table(uncounted)}"
        )
    if gone:
        lines.append(f"To be returned: {_sum_of(gone)} that are gone.\n\n{_table(gone)}")
    return "\n\n".join(lines) + "\n"


def _sum_of(leaks: Sequence[Leak]) -> str:
    credits = counted(sum(leak.credits for leak in leaks), "credit")
    return f"{credits} of {counted(len(leaks), 'connection')}"


def _table(leaks: Sequence[Leak]) -> str:
    table = "| Credits | Connection |\n|--:|---|"
    for leak in leaks[:MOST_LEAKS]:
        table += f"\n| {leak.credits} | {literal(leak.message)} |"
    if len(leaks) > MOST_LEAKS:
        table += f"\n| … | and {len(leaks) - MOST_LEAKS:,} more |"
    return table
