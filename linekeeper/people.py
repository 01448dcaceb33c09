"""Who looks after a customer, as an operator wrote it: a name, an address, a member of Slack.

`Petra Novak <U0PETRANOVAK>` is both: she is mentioned in Slack, and called by her name elsewhere.
"""

import re
from dataclasses import dataclass

_MEMBER = re.compile(r"[UW][A-Z0-9]{7,20}")
_GROUP = re.compile(r"S[A-Z0-9]{7,20}")
_NAMED = re.compile(rf"(.*\S)\s*<@?({_MEMBER.pattern}|{_GROUP.pattern})>")


@dataclass(frozen=True, slots=True)
class Person:
    """A person or a group, by name, by Slack's id, or by both."""

    name: str = ""
    slack_id: str = ""

    @property
    def mention(self) -> str:
        """How Slack's mrkdwn calls them; empty without an id."""
        if not self.slack_id:
            return ""
        return f"<@{self.slack_id}>" if is_member(self.slack_id) else f"<!subteam^{self.slack_id}>"

    @property
    def shown(self) -> str:
        """What to call them where Slack is not there to look up its id; empty for nobody."""
        if self.name or not self.slack_id:
            return self.name
        return f"Slack {'user' if is_member(self.slack_id) else 'group'} {self.slack_id}"


def is_member(slack_id: str) -> bool:
    """Whether it is the id of a person in Slack, not of a group."""
    return _MEMBER.fullmatch(slack_id) is not None


def person(written: str | None) -> Person:
    """Who is meant by what was written as a customer's owner."""
    owner = (written or "").strip()
    if named := _NAMED.fullmatch(owner):
        return Person(named[1], named[2])
    if _MEMBER.fullmatch(owner) or _GROUP.fullmatch(owner):
        return Person(slack_id=owner)
    return Person(owner)
