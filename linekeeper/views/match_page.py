"""The page of records that wait for somebody to say which is which."""

from collections.abc import Iterable, Mapping

from linekeeper.markdown import link, text
from linekeeper.reconcile.match_decisions import MOST_GROUPS, WaitingMatches
from linekeeper.store.tables import Record


def match_markdown(waiting: WaitingMatches, form: str | None) -> str:
    """The groups as a table; `form` leads to where they are decided."""
    groups = waiting.groups
    where = link("deletions", form)
    alike = sum(len(group.alike) for group in groups)
    lines = [
        f"# {text(waiting.target.label)}: which record is which?",
        f"A new login made a new connection, whose records have other keys. {len(groups):,} groups "
        "of records can't be distinguished by what identifies them, so nothing was matched: they "
        f"are not announced until somebody decides in the form {where}.",
        f"*same_contents* matches the {alike:,} whose contents are the same and nobody else's in "
        "the group; *pair* takes `old key = new key`, one a line; *distinct* says that the old "
        "ones are gone and the others are new.",
        "| Entity | Number | Keys before | Keys now | Same contents |\n|---|---|---|---|---|",
    ]
    rows = [
        f"| {text(group.entity)} | {text(_number(group.old, group.new))} | {_keys(group.old)} | "
        f"{_keys(group.new)} | {_pairs(group.alike)} |"
        for group in groups[:MOST_GROUPS]
    ]
    remaining = len(groups) - MOST_GROUPS
    rest = f"\n\n… and {remaining:,} more groups.\n" if remaining > 0 else "\n"
    return "\n\n".join(lines) + "\n" + "\n".join(rows) + rest


def _number(*sides: Mapping[str, Record]) -> str:
    return next((row.number for side in sides for row in side.values() if row.number), "—")


def _keys(side: Mapping[str, Record]) -> str:
    return _first_ten(_dated(key, row) for key, row in side.items())


def _dated(key: str, row: Record) -> str:
    changed = f" ({row.updated_at:%Y-%m-%d %H:%M})" if row.updated_at else ""
    return f"{text(key)}{changed}"


def _pairs(alike: Mapping[str, str]) -> str:
    return _first_ten(f"{text(old)} = {text(new)}" for old, new in alike.items())


def _first_ten(cells: Iterable[str]) -> str:
    every = list(cells)
    and_more = [f"and {len(every) - 10} more"] if len(every) > 10 else []
    return "<br>".join([*every[:10], *and_more]) or "—"
