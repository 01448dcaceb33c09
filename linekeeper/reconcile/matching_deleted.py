"""Which records of the one before a successor lists as deleted. Pure."""

from collections.abc import Sequence

from linekeeper.reconcile.matching import Matching, MatchRow, match_records


def match_deleted(
    matching: Matching,
    old: Sequence[MatchRow],
    new: Sequence[MatchRow],
    deleted: Sequence[MatchRow],
    fields: Sequence[str],
) -> None:
    """Find among `deleted` the old records that `matching` found nowhere among the `new` ones.

    What lives is matched first: a record that was deleted long ago makes no twin of one that is
    like it. The pairs found there say by which rule keys became others.
    """
    lost = {*matching.gone, *matching.unmatched}
    living = {row.key for row in new}
    known_as = {row.natural_key for row in new if row.natural_key is not None}
    candidates = {
        row.key: row for row in deleted if row.key not in living and row.natural_key not in known_as
    }
    if not (lost and candidates):
        return
    paired = set(matching.pairs.values())
    again = match_records(
        [row for row in old if row.key in matching.pairs or row.key in lost],
        [*(row for row in new if row.key in paired), *candidates.values()],
        fields,
    )
    matching.deleted = {
        key: other for key, other in again.pairs.items() if key in lost and other in candidates
    }
    matching.gone = [key for key in matching.gone if key not in matching.deleted]
    matching.unmatched = [key for key in matching.unmatched if key not in matching.deleted]
