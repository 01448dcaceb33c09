"""When the health of connections changed, for statements that say of which, and in what order."""

from sqlalchemy import select
from sqlmodel import col

from linekeeper.store.tables import Transition

HEALTH_CHANGES = select(
    col(Transition.connection_id),
    col(Transition.at),
    col(Transition.before),
    col(Transition.after),
).where(col(Transition.axis) == "health")
