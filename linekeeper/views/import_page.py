"""The artifact `import-customers`: what an import of customers did, or would do. Pure."""

from linekeeper.customers.importing import ImportPlan
from linekeeper.markdown import text

_MOST, _LINE = 200, 300
"""Lines of each kind, and characters of a line."""


def import_markdown(plan: ImportPlan, *, dry_run: bool) -> str:
    parts = [
        ("Problems; nothing is imported", [str(problem) for problem in plan.problems]),
        ("Would be new" if dry_run else "New", [str(step) for step in plan.create]),
        ("Would change" if dry_run else "Changed", [str(step) for step in plan.change]),
        ("Nobody to notify: no contact", list(plan.without_contact)),
    ]
    said = [f"{plan.unchanged} customers of the file are as it says."]
    for title, lines in parts:
        if lines:
            said += [f"### {title} ({len(lines)})"]
            said += [f"- {text(line, _LINE)}" for line in lines[:_MOST]]
            said += [f"- and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return "\n".join(said)
