"""Slack's mrkdwn as HTML. Everything that comes in is escaped first."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import escape

from markupsafe import Markup

from .people import PEOPLE

EMOJI = {
    "red_circle": "🔴",
    "large_orange_circle": "🟠",
    "orange_circle": "🟠",
    "large_yellow_circle": "🟡",
    "yellow_circle": "🟡",
    "large_green_circle": "🟢",
    "green_circle": "🟢",
    "large_blue_circle": "🔵",
    "white_circle": "⚪",
    "black_circle": "⚫",
    "white_check_mark": "✅",
    "heavy_check_mark": "✔️",
    "ballot_box_with_check": "☑️",
    "x": "❌",
    "warning": "⚠️",
    "rotating_light": "🚨",
    "fire": "🔥",
    "bell": "🔔",
    "no_bell": "🔕",
    "key": "🔑",
    "closed_lock_with_key": "🔐",
    "lock": "🔒",
    "unlock": "🔓",
    "link": "🔗",
    "broken_chain": "⛓️‍💥",
    "electric_plug": "🔌",
    "hourglass": "⌛",
    "hourglass_flowing_sand": "⏳",
    "alarm_clock": "⏰",
    "clock3": "🕒",
    "stopwatch": "⏱️",
    "calendar": "📅",
    "date": "📅",
    "zzz": "💤",
    "eyes": "👀",
    "wave": "👋",
    "tada": "🎉",
    "rocket": "🚀",
    "construction": "🚧",
    "hammer_and_wrench": "🛠️",
    "wrench": "🔧",
    "gear": "⚙️",
    "factory": "🏭",
    "package": "📦",
    "bar_chart": "📊",
    "chart_with_upwards_trend": "📈",
    "chart_with_downwards_trend": "📉",
    "inbox_tray": "📥",
    "outbox_tray": "📤",
    "email": "📧",
    "envelope": "✉️",
    "memo": "📝",
    "mag": "🔍",
    "bulb": "💡",
    "information_source": "\N{INFORMATION SOURCE}\ufe0f",
    "question": "❓",
    "exclamation": "❗",
    "arrows_counterclockwise": "🔄",
    "repeat": "🔁",
    "arrow_right": "➡️",
    "arrow_up": "⬆️",
    "arrow_down": "⬇️",
    "heartbeat": "💓",
    "green_heart": "💚",
    "skull": "💀",
    "snail": "🐌",
    "sunrise": "🌅",
    "crescent_moon": "🌙",
    "thumbsup": "👍",
    "+1": "👍",
    "raised_hands": "🙌",
    "moneybag": "💰",
    "credit_card": "💳",
    "test_tube": "🧪",
    "pencil2": "✏️",
    "triangular_flag_on_post": "🚩",
    "checkered_flag": "🏁",
    "satellite_antenna": "📡",
    "shield": "🛡️",
}

# Drawn by the page's own style: not every machine has a font with coloured circles.
_CIRCLES = {
    "🔴": "#e01e5a",
    "🟠": "#f2952f",
    "🟡": "#ecb22e",
    "🟢": "#2eb67d",
    "🔵": "#1d9bd1",
    "⚪": "#dddddd",
    "⚫": "#1d1c1d",
}
_CIRCLE = re.compile("|".join(_CIRCLES))
_FENCE = re.compile(r"```\n?(.*?)\n?```", re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_ANGLE = re.compile(r"&lt;(.+?)&gt;")
_EMOJI = re.compile(r":([a-z0-9_+'-]+):")
_STYLES = tuple(
    (re.compile(rf"(?<![\w{mark}])\{mark}(?=\S)([^\n{mark}]*?\S)\{mark}(?![\w{mark}])"), tag)
    for mark, tag in (("*", "b"), ("_", "i"), ("~", "s"))
)
_KEPT = re.compile("\x00(\\d+)\x00")


def plain(text: str) -> Markup:
    """Plain text: only emoji names become pictures."""
    return Markup(_emoji(escape(text)).replace("\n", "<br>"))  # noqa: S704  escaped above


def mrkdwn(text: str) -> Markup:
    """Bold, italic, struck, code, links, mentions, dates, quotes, lists, emoji."""
    kept: list[str] = []

    def keep(html: str) -> str:
        kept.append(html)
        return f"\x00{len(kept) - 1}\x00"

    # In Slack's own escaping `&lt;` stands for a sign and `<` opens a link.
    escaped = escape(text.replace("\x00", "").replace("&lt;", "\x01").replace("&gt;", "\x02"))
    escaped = escaped.replace("&amp;amp;", "&amp;")
    escaped = _FENCE.sub(lambda m: keep(f"<pre>{m[1]}</pre>"), escaped)
    escaped = _CODE.sub(lambda m: keep(f"<code>{m[1]}</code>"), escaped)
    escaped = _ANGLE.sub(lambda m: keep(_angle(m[1])), escaped)
    for pattern, tag in _STYLES:
        escaped = pattern.sub(rf"<{tag}>\1</{tag}>", escaped)
    escaped = _emoji(escaped)
    escaped = "".join(_line(line) for line in escaped.split("\n")).removesuffix("<br>")
    while _KEPT.search(escaped):
        escaped = _KEPT.sub(lambda m: kept[int(m[1])], escaped)
    return Markup(escaped.replace("\x01", "&lt;").replace("\x02", "&gt;"))  # noqa: S704  escaped above


def moment(ts: str) -> datetime:
    """The time of a message's `ts`, UTC."""
    return datetime.fromtimestamp(float(ts), UTC)


def _line(line: str) -> str:
    if line.startswith("&gt;"):
        return f"<blockquote>{line[4:].strip() or '&nbsp;'}</blockquote>"
    return f"{line}<br>"


def _emoji(text: str) -> str:
    shown = _EMOJI.sub(lambda m: EMOJI.get(m[1], m[0]), text)
    return _CIRCLE.sub(
        lambda m: f'<span class="dot" style="background:{_CIRCLES[m[0]]}">{m[0]}</span>', shown
    )


def _angle(inside: str) -> str:
    target, bar, label = inside.partition("|")
    if target.startswith("!date^"):
        return _date(target, label)
    if target.startswith("!"):
        return f'<span class="mention loud">@{label or target[1:].split("^")[-1]}</span>'
    if target.startswith(("@", "#")):
        name = label or PEOPLE.get(target[1:], target[1:])
        return f'<span class="mention">{target[0]}{name}</span>'
    if target.startswith(("http://", "https://", "mailto:")):
        shown = _emoji(label) if bar and label else target
        return f'<a href="{target}" target="_blank" rel="noopener">{shown}</a>'
    return f"&lt;{inside}&gt;"


def _date(target: str, fallback: str) -> str:
    _, _, rest = target.partition("^")
    seconds, _, form = rest.partition("^")
    if not seconds.isdigit():
        return fallback
    at = datetime.fromtimestamp(int(seconds), UTC)
    form = form.split("^")[0]
    for token, shown in (
        ("{date_num}", "%Y-%m-%d"),
        ("{date_short_pretty}", "%b %-d"),
        ("{date_long_pretty}", "%A, %B %-d"),
        ("{date_pretty}", "%B %-d"),
        ("{date_short}", "%b %-d, %Y"),
        ("{date_long}", "%A, %B %-d, %Y"),
        ("{date}", "%B %-d, %Y"),
        ("{time_secs}", "%H:%M:%S"),
        ("{time}", "%H:%M"),
    ):
        form = form.replace(token, at.strftime(shown))
    return f'<time title="{at:%Y-%m-%d %H:%M:%S} UTC">{form or fallback}</time>'
