"""What customers are mailed, in their language. No secret is in it but the connect links.

Each language is one file in `mails/`: a text in paragraphs, from which the HTML part is made too,
so that both say the same.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

import jinja2

from linekeeper.language import ENGLISH, MAILS, language, texts
from linekeeper.text import shown

What = Literal["ask", "remind", "again", "thank", "ending", "setup", "page"]
_SECTIONS: Mapping[str, str] = {
    "thank": "thanks",
    "ending": "ending",
    "setup": "setup",
    "page": "page",
}
"""Where a mail's texts are; all others are asked for a login that is lost."""

_JINJA = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)  # noqa: S701 - text
_LINK = re.compile(r"https?://\S+")
_PAGE = (
    '<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>{title}</title></head>'
    '<body style="font:16px/1.5 system-ui,sans-serif;color:#1f2937;max-width:36em;margin:2em auto;'
    'padding:0 1em">{body}</body></html>'
)
_BUTTON = (
    '<p><a href="{url}" style="display:inline-block;background:#1d4ed8;color:#fff;'
    'padding:.6em 1.2em;border-radius:.4em;text-decoration:none">{shown}</a><br>'
    '<small style="color:#4b5563;word-break:break-all">{url}</small></p>'
)


@dataclass(frozen=True, slots=True)
class SystemToLogIn:
    """One system of the customer; `since` is in the customer's zone, `url` its connect link.

    Where the login is only about to end, `since` is its end.
    """

    name: str
    since: datetime
    url: str
    is_new: bool = False
    """It was connected anew at Makini itself, and has no login with us."""
    is_renewal_lost: bool = False
    """Makini's answer to the renewal of our access was lost: its password may be what it was."""


@dataclass(frozen=True, slots=True)
class MailText:
    """A mail as it is written: the same in plain text and in HTML."""

    subject: str
    body: str
    html: str = ""


def compose(
    what: What,
    customer: str,
    systems: Sequence[SystemToLogIn],
    *,
    until: datetime | None,
    locale: str = ENGLISH,
    reminder: bool = False,
    is_backfilled: bool = True,
    is_also: bool = False,
    page: str | None = None,
) -> MailText:
    """The mail to `customer` about `systems`; `until` is when the first of the links ends.

    Whoever is thanked reads that what changed was fetched only where it `is_backfilled`.
    `page` is the address of the customer's own page. `is_also`: another mail asked just before.

    A language nobody wrote a file for is English; `de-CH` is `de` where there is no file for it.
    """
    lang = language(locale) or ENGLISH
    words = _words(lang)
    section = _SECTIONS.get(what, "login")
    mail = words.get(section) or _words(ENGLISH)[section]
    values: dict[str, Any] = {
        "customer": shown(customer),
        "names": _listed(systems, words, ""),
        "at_names": _listed(systems, words, "at_"),
        "many": len(systems) != 1,
        "is_new": bool(systems) and all(system.is_new for system in systems),
        "is_renewal_lost": bool(systems) and all(system.is_renewal_lost for system in systems),
        "is_refused": not any(system.is_renewal_lost for system in systems),
        "reminder": reminder or what == "remind",
        "until": until,
        "is_backfilled": is_backfilled,
        "is_also": is_also,
        "page": page,
        "systems": [
            {
                "name": shown(system_to_log_in.name),
                "since": system_to_log_in.since,
                "url": system_to_log_in.url,
                "is_new": system_to_log_in.is_new,
            }
            for system_to_log_in in systems
        ],
    }
    subject = shown(_rendered(mail["subject"], values, words), 150)
    body = _rendered(mail["body"], values, words)
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", body) if part.strip()]
    page = _PAGE.format(
        lang=html.escape(lang),
        title=html.escape(subject),
        body="".join(_marked(paragraph, str(words["button"])) for paragraph in paragraphs),
    )
    return MailText(subject, "\n\n".join(paragraphs) + "\n", page)


@cache
def _words(lang: str) -> Mapping[str, Any]:
    return texts(lang, MAILS)


def _rendered(template: str, values: Mapping[str, Any], words: Mapping[str, Any]) -> str:
    made = _JINJA.overlay()
    made.filters = made.filters | {
        "moment": lambda at: _written(at, words["moment"], words),
        "day": lambda at: _written(at, words["day"], words),
    }
    return made.from_string(template).render(values)


def _written(at: datetime, form: str, words: Mapping[str, Any]) -> str:
    zone = f"{at:%Z}"
    return form.format(
        day=at.day,
        month=words["months"][at.month - 1],
        year=at.year,
        time=f"{at:%H:%M}",
        zone=words["zones"].get(zone, zone),
    )


def _marked(paragraph: str, button: str) -> str:
    """A paragraph as HTML; one that is only a link becomes a button with the words `button`."""
    if _LINK.fullmatch(paragraph):
        url = html.escape(paragraph, quote=True)
        host = html.escape(paragraph.split("/")[2])
        return _BUTTON.format(url=url, shown=html.escape(button).format(host=host))
    lines = (html.escape(line, quote=True) for line in paragraph.splitlines())
    return f"<p>{'<br>'.join(lines)}</p>"


def _listed(systems: Sequence[SystemToLogIn], words: Mapping[str, Any], case: str) -> str:
    """The systems' names, joined; what stands in for a name is in the `case` that is meant."""
    once = list(dict.fromkeys(shown(system.name, 60) for system in systems))
    if not once:
        return str(words[f"{case}nameless"])
    last = once[-1]
    if len(once) > 3:
        once, last = [*once[:2], ""], str(words[f"{case}more"]).format(count=len(once) - 2)
    before = ", ".join(once[:-1])
    return f"{before} {words['and']} {last}" if before else last
