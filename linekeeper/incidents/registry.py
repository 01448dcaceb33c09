"""What an entry of the registry of incident kinds says (`linekeeper.incidents.kinds`)."""

from dataclasses import dataclass
from typing import Literal

Weight = Literal["loss", "normal", "minor"]
LOSS: Weight = "loss"
"""Something does not work; how much that matters depends on whom it concerns."""
NORMAL: Weight = "normal"
MINOR: Weight = "minor"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of incident. Operators are notified of each, as the alert policy has it."""

    topics: tuple[str, ...]
    """Whose it is: the finders that open and resolve incidents of it."""
    weight: Weight
    page: str
    """Where `docs/` says more."""
    headline: str
    """What is wrong, in a few words; empty where the title says it."""
    meaning: str
    """What is wrong, in sentences; empty where the title says it."""
    ahead: str
    """What happens next, what people can do, and what resolves it."""
    mails_customer: bool = False
    """Whether the customer is mailed as well."""
