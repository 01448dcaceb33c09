"""The artifact `adopt`: what importing Makini's connections did, or would do. Pure."""

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
    rows = [f"| new | {text(name)} |" for name in adoption.new[:_MOST]]
    rows += [f"| changed | {text(name)} |" for name in adoption.changed[:_MOST]]
    rows += [f"| missing | {text(name)} |" for name in adoption.missing[:_MOST]]
    rows += [
        f"| the same customer? | {text(question)}: if so, run customer-update for the new one, "
        "Is the same as |"
        for question in adoption.alike[:_MOST]
    ]
    rows += [
        f"| proposed contact, confirm it in customer-update | {text(contact)} |"
        for contact in adoption.proposed[:_MOST]
    ]
    rows += [f"| new customer | {text(name)} |" for name in adoption.customers[:_MOST]]
    return "\n\n".join(lines) + "\n" + "\n".join(rows) + "\n"
