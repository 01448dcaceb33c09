"""The outbox rows by which health says that an incident may need a customer.

What is asked, of whom and by which link depends on settings and is worked out where they are at
hand (`linekeeper.reconnect.ask`), moments later and from the incident as it is then. The row is
written in the incident's own transaction, so nothing is lost in between.
"""

from collections.abc import Iterable

from linekeeper.outbox.queue import Message
from linekeeper.store import new_id

CHANNEL = "reconnect"


def request_reconnects(incident_ids: Iterable[str]) -> list[Message]:
    """Rows that have each incident looked at; a repeat is harmless."""
    return [
        Message(
            CHANNEL,
            f"reconnect:{incident_id}:{new_id()}",
            {"incident_id": incident_id},
            lane=f"reconnect:{incident_id}",
        )
        for incident_id in dict.fromkeys(incident_ids)
    ]
