"""Which Slack channel takes a message: the first whose rules fit, `default` the rest. Pure.

An incident is routed once, when it is first told of, and stays in that channel to its end: its
message and its thread are there. What concerns several connections fits a rule only if each of
them does, so that an outage of a provider is not hidden in one customer's channel.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from linekeeper.config import Configuration, SlackConfig
from linekeeper.people import person

DEFAULT = "default"
_SEVERITIES = frozenset({"critical", "normal", "low"})


@dataclass(frozen=True, slots=True)
class Concerned:
    """A connection or customer a message is about."""

    owner: str = ""
    customers: Collection[str] = ()
    """The customer's name and slug."""
    tags: Collection[str] = ()
    provider: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What a message is about, as the rules of channels see it."""

    topics: Collection[str] = ()
    severity: str = ""
    concerned: Collection[Concerned] = ()


def channels_of(configuration: Configuration) -> dict[str, SlackConfig]:
    """Every channel by the name of its block, in the order in which they are asked."""
    others = sorted(
        configuration.slack_channels.items(), key=lambda item: (item[1].position, item[0])
    )
    default = configuration.slack
    return dict(others) | ({DEFAULT: default} if default is not None else {})


def route(about: About, channels: Mapping[str, SlackConfig]) -> str:
    """The name of the channel that takes it."""
    for name, channel in channels.items():
        if name != DEFAULT and has_rules(channel) and _fits(about, channel):
            return name
    return DEFAULT


def has_rules(channel: SlackConfig) -> bool:
    """Whether anything is filled in that says what the channel takes."""
    return any(_words(getattr(channel, field)) for field in _RULES)


def check(channel: SlackConfig) -> None:
    """Raise `ValueError` that says which rule can never fit."""
    unknown = sorted(_words(channel.severities) - _SEVERITIES)
    if unknown:
        known = ", ".join(sorted(_SEVERITIES))
        raise ValueError(f"severities: {', '.join(unknown)} is none of {known}")


def said_about(
    topic: str, *, customer_id: str | None = None, connection_id: str | None = None
) -> dict[str, Any]:
    """The part of the payload that says what a message that is about no incident is about."""
    return {"about": {"topic": topic, "customer_id": customer_id, "connection_id": connection_id}}


_RULES = ("owners", "customers", "tags", "providers", "severities", "topics")


def _fits(about: About, channel: SlackConfig) -> bool:
    severities, topics = _words(channel.severities), _words(channel.topics)
    if severities and not severities & _folded([about.severity]):
        return False
    if topics and not topics & _folded(about.topics):
        return False
    members: list[tuple[frozenset[str], list[frozenset[str]]]] = [
        (_words(channel.owners), [_called(each.owner) for each in about.concerned]),
        (_words(channel.customers), [_folded(each.customers) for each in about.concerned]),
        (_words(channel.tags), [_folded(each.tags) for each in about.concerned]),
        (_words(channel.providers), [_folded([each.provider]) for each in about.concerned]),
    ]
    return all(
        not wanted or (values and all(wanted & value for value in values))
        for wanted, values in members
    )


def _called(owner: str) -> frozenset[str]:
    """What a rule may call this owner: as written, by name, or by Slack's id."""
    whom = person(owner)
    return _folded([owner, whom.name, whom.slack_id])


def _words(text: str) -> frozenset[str]:
    return _folded(text.replace("\n", ",").split(","))


def _folded(values: Iterable[str]) -> frozenset[str]:
    return frozenset(folded for value in values if (folded := value.strip().casefold()))
