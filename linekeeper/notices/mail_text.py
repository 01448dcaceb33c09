"""What customers are mailed. Pure; no secret is in it but the connect links."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linekeeper.notices.text import shown

What = Literal["ask", "remind", "again", "thank"]


@dataclass(frozen=True, slots=True)
class SystemToLogIn:
    """One system of the customer; `since` is in the customer's zone, `url` its connect link."""

    name: str
    since: datetime
    url: str


@dataclass(frozen=True, slots=True)
class MailText:
    """A mail as it is written."""

    subject: str
    body: str


def compose(
    what: What, customer: str, systems: Sequence[SystemToLogIn], *, until: datetime | None
) -> MailText:
    """The mail to `customer` about `systems`; `until` is when the first of the links ends."""
    names = _listed([one.name for one in systems])
    if what == "thank":
        return MailText(
            _subject(f"{names} is connected again" if len(systems) == 1 else "Connected again"),
            f"Hello,\n\n{names} of {shown(customer)} {_are(systems)} connected again, and what "
            "changed meanwhile has been fetched. There is nothing more to do. Thank you!\n",
        )
    reminder = what == "remind"
    subject = f"{'Reminder: please' if reminder else 'Please'} log in to {names} again"
    parts = [
        "Hello,",
        f"{names} of {shown(customer)} {_do(systems)} not accept the stored login any more. Most "
        "often its password was changed.",
        "What is at stake: until somebody logs in again, nothing can be read from it or sent to "
        "it, and whatever is built on that data stands still.",
    ]
    if len(systems) == 1:
        parts.append(f"It takes two or three minutes. Please open this page:\n\n{systems[0].url}")
    else:
        parts.append("It takes two or three minutes for each. Please open these pages:")
        parts += [f"{shown(one.name)}:\n{one.url}" for one in systems]
    parts.append(
        "\n".join(
            f"{shown(one.name)}: no access since {one.since:%d %B %Y, %H:%M} ({one.since:%Z})"
            for one in systems
        )
    )
    ends = f" until {until:%d %B %Y}" if until else ""
    parts.append(
        f"The links are meant for {shown(customer)} only and work{ends}. You will never be asked "
        "for a password by mail. If somebody else looks after this system, please pass this on. "
        "Once the login works you will hear no more of this."
    )
    return MailText(_subject(subject), "\n\n".join(parts) + "\n")


def _subject(text: str) -> str:
    return shown(text, 150)


def _listed(names: Sequence[str]) -> str:
    once = list(dict.fromkeys(shown(name, 60) for name in names))
    if len(once) > 3:
        return f"{', '.join(once[:2])} and {len(once) - 2} more"
    return " and ".join(filter(None, (", ".join(once[:-1]), once[-1]))) if once else "your system"


def _are(systems: Sequence[SystemToLogIn]) -> str:
    return "is" if len(systems) == 1 else "are"


def _do(systems: Sequence[SystemToLogIn]) -> str:
    return "does" if len(systems) == 1 else "do"
