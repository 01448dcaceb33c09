"""The artifact `expiry`: when logins end, as a chart of 31 days and a table. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from linekeeper.access.expiry import WITHIN, Expiry
from linekeeper.markdown import image, text

DAYS = 31
SHOWN = 300
_WIDTH, _HEIGHT, _LEFT, _BASE = 720, 190, 30, 150


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
    more = [f"\n… and {len(expiries) - SHOWN} more."] if len(expiries) > SHOWN else []
    return "\n\n".join(lines) + "\n" + "\n".join([*rows, *more]) + "\n"


def _how(expiry: Expiry) -> str:
    if expiry.health == "reauthorization_required":
        return "waits for the customer's login"
    if expiry.refused:
        return "refused by Makini: needs a new login"
    return "by itself" if expiry.refreshable else "by minting; else a new login"


def _image(expiries: Sequence[Expiry], now: datetime) -> str:
    counts = Counter(max(0, (expiry.expires_at - now).days) for expiry in expiries)
    svg = chart([counts.get(day, 0) for day in range(DAYS)], now)
    return image("logins that end, by day", svg)


def chart(counts: Sequence[int], now: datetime) -> str:
    """Bars of logins that end, a day each from today on, as SVG for light and dark pages."""
    most = max([*counts, 1])
    step = (_WIDTH - _LEFT - 10) / len(counts)
    bars = []
    for day, count in enumerate(counts):
        at = now + timedelta(days=day)
        x = _LEFT + day * step
        if count:
            high = max(3.0, 110 * count / most)
            kind = "soon" if day < WITHIN.days else "later"
            bars.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{_BASE - high:.1f}" width="{step - 3:.1f}" '
                f'height="{high:.1f}" rx="2"><title>{at:%d %b}: {count}</title></rect>'
                f'<text x="{x + step / 2 - 1.5:.1f}" y="{_BASE - high - 4:.1f}" '
                f'text-anchor="middle">{count}</text>'
            )
        if day % 5 == 0:
            bars.append(f'<text class="s" x="{x:.1f}" y="{_BASE + 18}">{at:%d %b}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>Logins that end, by day</title>'
        "<style>text{font:12px system-ui,sans-serif;fill:#1c2733}.s{fill:#4a5764}"
        ".bg{fill:#fff;stroke:#d5dae0}.soon{fill:#c4320a}.later{fill:#0b57d0}"
        ".line{stroke:#9aa5b1}"
        "@media(prefers-color-scheme:dark){text{fill:#e6ebf0}.s{fill:#aab6c2}"
        ".bg{fill:#161c22;stroke:#38434e}.soon{fill:#ff9c66}.later{fill:#8ab4f8}}</style>"
        f'<rect class="bg" x=".5" y=".5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="8"/>'
        f'<line class="line" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{_BASE}" y2="{_BASE}"/>'
        f"{''.join(bars)}</svg>"
    )
