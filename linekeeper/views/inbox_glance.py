"""What waits in the inbox, in one line: of the figures that the artifact `webhooks` shows."""

from dataclasses import dataclass
from datetime import timedelta

from linekeeper.text import duration
from linekeeper.views.webhook_figures import Figures


@dataclass(frozen=True, slots=True)
class InboxGlance:
    """Webhooks that are not applied, of all apps."""

    pending: int
    """Those that wait to be applied, or to be tried again."""
    oldest_seconds: int
    """The age of the oldest that was due and not tried yet; 0: there is none."""
    dead: int
    """Those that were given up and not replayed since."""
    unrouted: int
    """Those of the last day that name no connection that is known."""

    @property
    def sentence(self) -> str:
        """One line of `linekeeper status`."""
        waiting = f"{self.pending:,} pending"
        if self.oldest_seconds:
            waiting += f", the oldest due for {_age(self.oldest_seconds)}"
        return f"inbox: {waiting}, {self.dead:,} dead, {self.unrouted:,} unrouted in a day"


def inbox_at_a_glance(figures: Figures) -> InboxGlance:
    """The inbox as `figures` show it. Pure."""
    oldest = min((each.oldest_at for each in figures.streams if each.oldest_at), default=None)
    age = max((figures.at - oldest).total_seconds(), 0.0) if oldest else 0.0
    return InboxGlance(
        pending=figures.total("pending"),
        oldest_seconds=int(age),
        dead=figures.dead_total,
        unrouted=figures.total("unrouted"),
    )


def _age(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else duration(timedelta(seconds=seconds))
