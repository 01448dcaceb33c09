"""How often what is read. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Policy:
    """Cadences. A routine run reads whatever falls due before the next one."""

    routine: timedelta = timedelta(minutes=15)
    tight: timedelta = timedelta(minutes=5)
    """Critical customers, and connections whose webhooks can't be trusted."""
    loose: timedelta = timedelta(minutes=60)
    """Connections whose webhooks have proved good."""
    full: timedelta = timedelta(days=7)
    confirm: timedelta = timedelta(minutes=10)
    """After a listing from which records were missing: list again to confirm."""
    inconsistent: timedelta = timedelta(days=1)
    """After further listings with fewer records than the source's own total: list again."""
    count: timedelta = timedelta(hours=6)
    """How often a source is asked how many records it has."""
    records_a_day: int = 10_000
    """So many records more, and it is a day longer until all are listed again because of that."""
    refilter: timedelta = timedelta(days=1)
    """After a source refused the time filter: try it again."""
    slack: timedelta = timedelta(minutes=2)
    """A run that starts a little early finds what is due all the same."""

    retry: timedelta = timedelta(minutes=15)
    """After the first failure of one entity; doubled by each further one ..."""
    retry_longest: timedelta = timedelta(hours=6)
    """... and never longer than this."""

    offered_again: timedelta = timedelta(days=1)
    """What a system doesn't offer is asked for again at least so often."""

    def offered_after(self, missing_for: timedelta) -> timedelta:
        """When to ask again for an entity that was not found for so long: ever less often."""
        return min(max(missing_for, self.retry), self.offered_again) - self.slack

    def after_inconsistent(self, before: int) -> timedelta:
        """When to list again after an inconsistent listing, `before` of which were so in a row."""
        return self.inconsistent if before else self.confirm

    def relist_apart(self, records: int) -> timedelta:
        """How long after a whole listing of so many the next may follow because numbers differ."""
        return min(max(timedelta(days=records / self.records_a_day), self.count), self.full)

    def retry_after(self, failing_for: timedelta) -> timedelta:
        """How long an entity waits that has failed for so long.

        As long again as it failed: 15 minutes, then 30, 60 and so on. Who tries it by hand
        meanwhile, however often, makes it wait no longer.
        """
        return min(self.retry + max(failing_for, timedelta()), self.retry_longest) - self.slack

    def cadence(self, trust: str, *, critical: bool) -> timedelta:
        """How long a connection may go unread, by the state of its webhooks' trust."""
        if critical or trust in ("bad", "none"):
            return self.tight
        return self.loose if trust == "good" else self.routine

    def is_full_due(
        self,
        full_at: datetime | None,
        confirm_at: datetime | None,
        *,
        polled_at: datetime | None,
        now: datetime,
    ) -> bool:
        """Whether to list everything.

        Where a first listing broke off, and what changed since could be read, it is made again at
        `confirm_at`.
        """
        if full_at is None:
            return polled_at is None or confirm_at is None or now >= confirm_at
        return now - full_at >= self.full or (confirm_at is not None and now >= confirm_at)


POLICY = Policy()
