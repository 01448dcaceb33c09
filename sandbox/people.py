"""Who works at this company: the members of its Slack, and whose each customer is."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterable

PEOPLE = {
    "U0OPERATOR": "Operator",
    "U0PETRANOVAK": "Petra Novak",
    "U0JONASWEBER": "Jonas Weber",
    "U0MEILINCHEN": "Mei-Lin Chen",
}
"""Members of the sandbox's Slack, by id."""

_OWNERS = [member for member in PEOPLE if member != "U0OPERATOR"]


def customers_csv(customers: Iterable[str]) -> str:
    """A file for `linekeeper customer import`: each customer with whoever looks after it."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("name", "owner"))
    for name in sorted(set(customers)):
        member = _OWNERS[zlib.crc32(name.encode()) % len(_OWNERS)]
        rows.writerow((name, f"{PEOPLE[member]} <{member}>"))
    return out.getvalue()
