"""The setup axis: how far a connection has come, and since when there is one. Pure."""

from sqlalchemy import func
from sqlmodel import col

from linekeeper.store.tables import Connection

ESTABLISHED = ("syncing", "live")
"""With these a connection counts in a provider's or app's fleet."""


MADE_AT = func.coalesce(col(Connection.made_at), col(Connection.created_at))
"""When a connection was made; where Makini's list doesn't say, when it was first seen."""


def setup_after(current: str, lifecycle: str, *, connected: bool) -> str:
    """Where a connection stands after Makini listed it as `lifecycle`.

    A live connection stays live, whatever it syncs again; one that was disconnected and is listed
    again starts anew. `connected`: Makini says when it was connected, so a status nobody knows
    doesn't hide that it is in use.
    """
    if lifecycle in ("active", "inactive"):
        return "live"  # inactive: set up, and short of credits
    if current == "live":
        return "live"
    if lifecycle in ("synchronizing", "in_progress"):
        return "syncing"
    if lifecycle == "unknown" and connected:
        return "live"
    return "pending" if current == "disconnected" else current
