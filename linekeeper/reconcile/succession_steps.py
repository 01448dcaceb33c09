"""What steps of a succession come to, and its publication."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.outbox.forward import RecoveredChange, forward_changes
from linekeeper.reconcile.matching import MatchRow, is_changed
from linekeeper.reconcile.queries import append_changes
from linekeeper.reconcile.target import PollTarget
from linekeeper.store import Store, new_id
from linekeeper.store.tables import SuccessionStep

Op = Literal["inserted", "updated", "rekeyed", "deleted"]


@dataclass(slots=True)
class SuccessionChanges:
    """What some steps come to: changes to publish, old rows to remove or to move."""

    changes: list[dict[str, Any]] = field(default_factory=list)
    matched: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    def count(self, op: Op) -> int:
        """How many changes of this kind."""
        return sum(change["op"] == op for change in self.changes)


def freeing_first(pairs: Mapping[str, str]) -> list[tuple[str, str]]:
    """New key by old key, in an order in which a key is given up before another record takes it.

    Keys that are exchanged in a circle have no such order. Pure.
    """
    ordered: list[tuple[str, str]] = []
    seen: set[str] = set()
    for first in pairs:
        chain: list[tuple[str, str]] = []
        key = first
        while key in pairs and key not in seen:
            seen.add(key)
            chain.append((key, pairs[key]))
            key = pairs[key]
        ordered += reversed(chain)
    return ordered


def decide_steps(
    steps: Sequence[SuccessionStep],
    old: Mapping[str, MatchRow],
    new: Mapping[str, MatchRow],
    *,
    comparable: bool,
) -> SuccessionChanges:
    """What `steps` come to, by the rows as they are now. Pure but for the ids it makes."""
    taken = SuccessionChanges()
    for step in steps:
        before, after = old.get(step.old_key or ""), new.get(step.new_key or "")
        if step.op in ("match", "deleted") and before is not None and after is not None:
            taken.matched.append(before.key)
            if before.key != after.key:
                taken.changes.append(_change("rekeyed", after, old_key=before.key))
            if is_changed(before, after, comparable=comparable):
                taken.changes.append(_change("updated", after))
        elif step.op in ("insert", "match") and after is not None:  # or what it was is gone by now
            taken.changes.append(_change("inserted", after))
        elif step.op == "deleted" and before is not None:
            taken.deleted.append(before.key)
            taken.changes.append(_change("deleted", before))
        elif step.op in ("absent", "match") and before is not None:
            taken.absent.append(before.key)
        elif step.op == "unmatched" and before is not None:
            taken.unmatched.append(before.key)
    return taken


def _change(op: Op, row: MatchRow, *, old_key: str | None = None) -> dict[str, Any]:
    return {
        "id": new_id(),
        "key": row.key,
        "op": op,
        "old_key": old_key,
        "updated_at": row.time,
        "due": {"rekeyed": None, "deleted": "deleted"}.get(op, "missed"),
    }


async def publish(
    store: Store,
    session: AsyncSession,
    target: PollTarget,
    entity: str,
    changes: Sequence[dict[str, Any]],
    *,
    last: int,
) -> None:
    """Append `changes` to the feed, numbered on from `last`, and hand them on."""
    if not changes:
        return
    now = utcnow()
    rows = [
        {
            "connection_id": target.id,
            "seq": seq,
            "position": None,
            "entity": entity,
            "at": now,
            "source": "succession",
            "recovered": True,
            "announced_at": None,
            **change,
        }
        for seq, change in enumerate(changes, start=last + 1)
    ]
    await append_changes(session, rows)
    recovered = [
        RecoveredChange(
            id=row["id"],
            connection_id=target.id,
            makini_key=target.makini_key,
            entity=entity,
            key=row["key"],
            op=row["op"],
            at=row["updated_at"] or now,
            old_key=row["old_key"],
        )
        for row in rows
    ]
    await forward_changes(store, session, target.app, recovered, now=now)
