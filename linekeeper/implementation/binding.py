"""Which of a customer's connections is which system of an implementation. Pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from slugify import slugify

from linekeeper.access.system_names import names_another
from linekeeper.implementation.facts import ConnectionFacts
from linekeeper.store.tables import ImplementationSystem


def bind(
    systems: Sequence[ImplementationSystem],
    customer: str,
    candidates: Sequence[ConnectionFacts],
    since: datetime,
    *,
    gone: Collection[str] = (),
    providers: Collection[str] = (),
    known_since: Mapping[str, datetime] | None = None,
) -> dict[str, str]:
    """Which connection of the customer is which of the `systems` that have none, or one of `gone`.

    By the link the customer connected it with, else by provider or name. The one connection made
    after `since` that is left is the one system that is left, unless that is called by another of
    the `providers` there are. `candidates` are those that belong to no system; `known_since` is
    when the first connection of their app was seen.
    """
    bound: dict[str, str] = {}
    free = {facts.id: facts for facts in candidates if facts.setup != "disconnected"}
    left = [
        system for system in systems if system.connection_id is None or system.connection_id in gone
    ]
    for called in (_by_link, _by_provider_or_name):
        for system in left:
            texts = {slugify(system.name), slugify(f"{customer} {system.name}")}
            same = [facts for facts in free.values() if texts & called(facts)]
            if len(same) == 1:
                bound[system.id] = same[0].id
                del free[same[0].id]
        left = [system for system in left if system.id not in bound]
    new = [facts for facts in free.values() if is_new(facts, since, known_since or {})]
    for system, facts in zip(left, new, strict=False):
        is_only = len(left) == 1 and len(new) == 1
        if is_only and not names_another(system.name, facts.provider, providers):
            bound[system.id] = facts.id
    return bound


def is_new(
    facts: ConnectionFacts, since: datetime, known_since: Mapping[str, datetime]
) -> bool | None:
    """Whether a connection was made after `since`; None where nothing says it.

    Where Makini's list doesn't say when it was made, it is new if a list of before lacked it.
    """
    if facts.came_before(since):
        return False
    if facts.made_at is not None or known_since.get(facts.app, since) < since:
        return True
    return None


def _by_link(facts: ConnectionFacts) -> set[str]:
    return {slugify(facts.system)} if facts.system else set()


def _by_provider_or_name(facts: ConnectionFacts) -> set[str]:
    return {slugify(facts.provider), slugify(facts.name)}
