"""The artifact `adopt`: what importing Makini's connections did, or would do. Pure."""

from collections.abc import Iterable, Sequence

from linekeeper.customers.adopt import Adoption
from linekeeper.markdown import text

_MOST = 500
"""Lines of each kind."""


def adoption_markdown(adoption: Adoption, *, dry_run: bool) -> str:
    """The page: what was made, changed and missing, and what people are asked."""
    lines = [
        f"# Adoption{' (dry run: nothing was written)' if dry_run else ''}",
        f"{adoption.known} connections are known.",
        "| | Connection |\n|---|---|",
    ]
    kinds: list[tuple[str, Sequence[str], str]] = [
        ("new", adoption.new, ""),
        ("changed", adoption.changed, ""),
        ("missing", adoption.missing, ""),
        (
            "the same customer?",
            adoption.alike,
            ": if so, run customer-update for the new one, Is the same as",
        ),
        ("proposed contact, confirm it in customer-update", adoption.proposed, ""),
        ("new customer", adoption.customers, ""),
    ]
    rows = [row for what, names, then in kinds for row in _rows(what, names, then)]
    return "\n\n".join(lines) + "\n" + "\n".join(rows) + "\n"


def _rows(what: str, names: Sequence[str], then: str) -> Iterable[str]:
    yield from (f"| {what} | {text(name)}{then} |" for name in names[:_MOST])
    if len(names) > _MOST:
        yield f"| {what} | and {len(names) - _MOST:,} more |"
