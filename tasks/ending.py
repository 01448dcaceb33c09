"""Why a run could not do its work, where that is no fault of Linekeeper's own."""

from prefect.task_engine import TaskRunTimeoutError

from linekeeper.makini import MakiniError, ReadOnlyApp
from linekeeper.runtime import UnknownApp
from linekeeper.store import KeyProblem, StoreError
from linekeeper.store.errors import trouble_of
from linekeeper.store.trouble import is_in_trouble
from tasks.task import StillFailing

EXPECTED = (MakiniError, ReadOnlyApp, UnknownApp, StillFailing)
"""What a run finds: others tell of it, or who started it, and the run is not broken."""


class TakenOver(Exception):
    """This run stood still for longer than its lease, which ended.

    `by` is the run that took it over; None: nobody has.
    """

    def __init__(self, by: str | None) -> None:
        super().__init__(by or "nobody")
        self.by = by


def reason_of(error: Exception) -> str | None:
    """Why the run ended, in plain words without a full stop; None for what nobody foresaw."""
    said: str | None = None
    if isinstance(error, TaskRunTimeoutError):
        said = f"A step took longer than it may ({error})"
    elif isinstance(error, (*EXPECTED, StoreError, KeyProblem)):
        said = str(error)
    elif is_in_trouble(error):
        said = str(trouble_of(error))
    return said and said[:1].upper() + said[1:].rstrip(".")
