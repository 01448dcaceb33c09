"""Who joins an incident of several is named in Slack, where that incident is said."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.simulation.slack import Message

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

NAMED_WITHIN = timedelta(minutes=5)
SLACK_BACK = timedelta(minutes=35)
"""So long after it became calm Slack is back."""
LISTED = 20
"""So many members an incident's own message lists."""
NAMED_IN_A_LINE = 5
"""So many its line names in a message about several incidents."""


def unnamed(oracle: "Oracle") -> Iterator[str]:
    """Everything that is broken, in one line each.

    Judged is who was in one while it was calm, and Slack back. A message that it shares with others
    is edited, of which nobody is notified: who was not in it from the first is named in its thread.
    An incident may come into such a message by an edit, which is the first then.
    """
    universe = oracle.universe
    muted = {incident for incident, *_ in universe.people.unusual.muted}
    for row in oracle.rows(
        "SELECT i.id, i.title, c.name, c.makini_key, m.joined_at,"
        " min(coalesce(m.left_at, i.resolved_at), coalesce(i.resolved_at, m.left_at)) AS until,"
        " (SELECT count(*) FROM incident_connection o WHERE o.incident_id = i.id) AS members"
        " FROM incident_connection m JOIN incident i ON i.id = m.incident_id"
        " JOIN connection c ON c.id = m.connection_id WHERE i.scope != 'connection'"
    ):
        joined_at = datetime.fromisoformat(row["joined_at"])
        until = datetime.fromisoformat(row["until"]) if row["until"] else universe.now()
        is_brief = until - max(joined_at, universe.calm_since + SLACK_BACK) < NAMED_WITHIN
        if is_brief or row["id"] in muted or row["members"] > LISTED:
            continue
        own = [message for message in universe.slack.channel if message.incident_id == row["id"]]
        shared = [] if own else _shared(oracle, row["id"])
        said = [text for message in own for _, text in message.texts]
        for message, at in shared:
            said += [text for reply in _thread(oracle, message) for _, text in reply.texts]
            firsts = [*message.texts[:1], *[text for text in message.texts if text[0] >= at][:1]]
            edits = message.texts if row["members"] > NAMED_IN_A_LINE else firsts
            said += [text for _, text in edits]
        names = _names(oracle, row["makini_key"], row["name"])
        if said and not any(name in text for text in said for name in names):
            yield (
                f"unnamed: {row['name']} is in {row['title']} since {joined_at:%H:%M:%S}, "
                "and is not named there"
            )


def _names(oracle: "Oracle", key: str, name: str) -> set[str]:
    """What it is called here, and was while its list did not have it: as its status names it."""
    connection = oracle.universe.truth.connections.get(key)
    if connection is None:
        return {name}
    return {name, connection.name, f"{connection.company} - {connection.provider}"}


def _shared(oracle: "Oracle", incident: str) -> list[tuple[Message, datetime]]:
    """The messages about several incidents in which it was announced, and since when."""
    keys = {
        row["fold"]: datetime.fromisoformat(row["at"])
        for row in oracle.rows(
            "SELECT fold, at FROM notice WHERE incident_id = ? AND channel = 'slack'"
            " AND step = 'first' AND fold IS NOT NULL", incident,
        )
    }  # fmt: skip
    return [
        (message, at) for message in oracle.universe.slack.channel
        for key, at in keys.items() if f":fold:{key}:" in message.key
    ]  # fmt: skip


def _thread(oracle: "Oracle", head: Message) -> list[Message]:
    messages = oracle.universe.slack.messages.values()
    return [message for message in messages if message.thread_ts == head.ts]
