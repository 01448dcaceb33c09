"""How explanations say times and answers. Pure."""

from datetime import datetime


def moment(at: datetime | None) -> str:
    """A time."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at is not None else "an unknown time"


def answer(status: int | None, error: str | None) -> str:
    """What the product answered to one attempt."""
    return f"HTTP {status}" if status is not None else f"no answer ({error or 'unknown error'})"


def kept(removed: datetime | None, what: str) -> str:
    """How far back something goes, of which housekeeping removed all from before `removed`."""
    if removed is None:
        return f"{what} are kept from the beginning; housekeeping has removed none yet."
    return f"{what} are kept since {moment(removed)}; housekeeping removed the older ones."
