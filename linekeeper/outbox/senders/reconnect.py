"""Incidents that may need a customer: their cases are brought in line with them."""

from sqlalchemy import select

from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.events import RECONNECT
from linekeeper.outbox.queue import OUTBOX
from linekeeper.outbox.sender import Ended, Failed, OutboxRow, Result, Sender
from linekeeper.reconnect.check import check_and_advance
from linekeeper.redact import describe_error
from linekeeper.runtime import Runtime
from linekeeper.store import Store


async def advance_due_cases(rt: Runtime) -> bool:
    """Work on the incidents health asked to have looked at; returns whether there were any."""
    async with Dispatcher(rt.store, rt.owner, ReconnectSender(rt)) as dispatcher:
        return bool(await dispatcher.deliver())


class ReconnectSender(Sender):
    """Advances the case of each incident, one after the other."""

    channel = RECONNECT
    batch = 50
    at_once = 1

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt

    async def send(self, row: OutboxRow) -> Result:
        """Advance its case; whatever goes wrong is written in the row, and it is tried again."""
        covered = await _backlog_keys(
            self._rt.store, row.id, row.ordering_key
        )  # they ask for the same
        incident_id = str(row.payload.get("incident_id"))
        try:
            await check_and_advance(self._rt, incident_id)
        except Exception as error:
            return Failed(describe_error(error), is_kept=True)
        return Ended(covers=covered)

    def timed_out(self, row: OutboxRow) -> Failed:
        """Other cases are no worse for it."""
        return Failed(f"not done within {self.deadline_seconds:.0f} s", is_kept=True)


async def _backlog_keys(store: Store, row_id: str, ordering_key: str) -> list[str]:
    """The dedupe keys of the messages that wait behind a claimed one now."""
    async with store.read() as session:
        return list(
            await session.scalars(
                select(OUTBOX.c.dedupe_key).where(
                    OUTBOX.c.ordering_key == ordering_key,
                    OUTBOX.c.status == "pending",
                    OUTBOX.c.id != row_id,
                )
            )
        )
