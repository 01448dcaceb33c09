"""The artifact `expiry`: when logins end, as a chart of 31 days and a table. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from linekeeper.access.expiry import WITHIN, Expiry
from linekeeper.charts import BLUE, RED, Bars, draw_bars
from linekeeper.markdown import image, text

DAYS = 31
SHOWN = 300


def expiry_markdown(expiries: Sequence[Expiry], *, now: datetime) -> str:
    """Every login that ends within 31 days, the soonest first."""
    soon = sum(expiry.expires_at <= now + WITHIN for expiry in expiries)
    lines = [
        "# When logins end",
        f"{len(expiries)} end within {DAYS} days, {soon} of them within {WITHIN.days}. They are "
        "renewed every six hours once that near. Tokens that are minted at use have no end and are "
        f"not listed. {now:%Y-%m-%d %H:%M} UTC.",
        _image(expiries, now),
        "| Ends (UTC) | Connection | Renewal |\n|---|---|---|",
    ]
    rows = [
        f"| {expiry.expires_at:%Y-%m-%d %H:%M} | {text(expiry.label)} | {_how(expiry)} |"
        for expiry in expiries[:SHOWN]
    ]
    and_more = [f"\n… and {len(expiries) - SHOWN} more."] if len(expiries) > SHOWN else []
    return "\n\n".join(lines) + "\n" + "\n".join([*rows, *and_more]) + "\n"


def _how(expiry: Expiry) -> str:
    if expiry.health == "reauthorization_required":
        return "waits for the customer's login"
    if expiry.refused:
        return "refused by Makini: needs a new login"
    return "by itself" if expiry.refreshable else "by minting; else a new login"


def _image(expiries: Sequence[Expiry], now: datetime) -> str:
    counts = Counter(max(0, (expiry.expires_at - now).days) for expiry in expiries)
    bars = [
        (
            f"{now + timedelta(days=day):%d %b}",
            (counts[day], 0) if day < WITHIN.days else (0, counts[day]),
        )
        for day in range(DAYS)
    ]
    series = [(f"within {WITHIN.days} days", RED), ("later", BLUE)]
    return image("logins that end, by day", draw_bars(Bars("Logins that end", series, bars)))
