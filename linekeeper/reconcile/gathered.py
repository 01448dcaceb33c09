"""What has come of a listing while it is read."""

from dataclasses import dataclass, field

from linekeeper.makini import MakiniError
from linekeeper.reconcile.listing import KeySet, Sizes, WriteBatch
from linekeeper.reconcile.writer import ListingWriter


@dataclass(slots=True)
class Listing:
    """What has come of one listing."""

    writer: ListingWriter
    batch: WriteBatch
    keys: KeySet = field(default_factory=KeySet)
    deleted: KeySet = field(default_factory=KeySet)
    """Those of `keys` that the source lists as deleted: they are in its total, too."""
    sizes: Sizes = field(default_factory=Sizes)
    broken: MakiniError | None = None
    """Why it ended before the end that its source speaks of."""
    keyless: int = 0
    """Records without a key; they are in the source's total, and can't be in the index. Each may
    be one that is missing, so while there are any nothing is gone."""

    @property
    def count(self) -> int:
        """How many different records came."""
        return len(self.keys) + self.keyless

    @property
    def total(self) -> int | None:
        """How many live records the source says it has."""
        return None if self.sizes.last is None else self.sizes.last - len(self.deleted)

    @property
    def lacks(self) -> bool:
        """Whether fewer came than the source says it has."""
        return self.sizes.last is not None and self.count < self.sizes.last

    @property
    def fault(self) -> MakiniError | None:
        """What keeps it from being the whole: it broke off, and not all of the total came."""
        return self.broken if self.lacks or self.sizes.last is None else None


class ListingShifted(Exception):
    """What was listed is not the whole: pages shifted while they were read."""
