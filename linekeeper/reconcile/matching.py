"""Which record of a connection is which of the one that took its place. Pure.

Nothing is known of the form of Makini's keys. They may be the same, share their ends, or be others
altogether; whichever holds is found in the records themselves, and only believed where what else
is known of them (natural keys, contents, times) agrees and nothing contradicts it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar

from linekeeper.reconcile.identity import NUMBERS, is_reference, signature

T = TypeVar("T")
Rule = Literal["same_keys", "key_suffix", "natural_keys"]
LEAST_EVIDENCE = 5
"""Records that must agree before a shared end of keys is believed; all of them if there are fewer
and they agree in whole keys."""
SHORTEST_SUFFIX = 4
MOST_CONTRADICTIONS = 0.001
"""The most contradictions among the pairs a rule makes; with more it is no rule."""
MISSING_EVIDENCE = 0.05
"""The most pairs known otherwise that may be none by the rule."""
INCOMPARABLE = 0.2
"""More pairs than this share with the same time and other contents: they differ by more than
keys, and only the time tells what changed."""


class MatchRow(NamedTuple):
    """A live record, as far as matching goes."""

    key: str
    natural_key: str | None
    time: datetime | None
    plain_hash: str | None
    hash: str


@dataclass(slots=True)
class Matching:
    """What became of the records of the one before (old keys) and of the other (new keys)."""

    rule: Rule | None = None
    pairs: dict[str, str] = field(default_factory=dict)
    """New key by old key."""
    groups: list[tuple[list[str], list[str]]] = field(default_factory=list)
    """Old and new keys that belong together in a way only a person can tell."""
    deleted: dict[str, str] = field(default_factory=dict)
    """The key under which the other lists it as deleted, by old key."""
    gone: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    """Old keys of which too little is known."""
    fresh: list[str] = field(default_factory=list)
    comparable: bool = True


def match_records(
    old: Sequence[MatchRow], new: Sequence[MatchRow], fields: Sequence[str]
) -> Matching:
    """Match `old` with `new`. `fields` are those their natural keys are made from."""
    result = Matching()
    natural = _Natural(old, new, fields)
    certain = natural.pairs()
    by_rule, suffix = _by_keys(old, new, certain, natural)
    if by_rule is None:
        result.pairs = certain
        result.rule = "natural_keys" if certain else None
    else:
        result.rule = "same_keys" if suffix is None else "key_suffix"
        taken = set(by_rule.values())
        rest = {a: b for a, b in certain.items() if a not in by_rule and b not in taken}
        result.pairs = {**by_rule, **rest}
    result.pairs |= natural.nearly(result.pairs)
    result.groups = natural.groups(result.pairs)
    held_old = {key for olds, _ in result.groups for key in olds}
    held_new = {key for _, news in result.groups for key in news}
    taken = set(result.pairs.values())
    result.fresh = [row.key for row in new if row.key not in taken and row.key not in held_new]
    for row in old:
        if row.key in result.pairs or row.key in held_old:
            continue
        known = row.key in natural.old or by_rule is not None or not result.fresh
        (result.gone if known else result.unmatched).append(row.key)
    result.comparable = _comparable(old, new, result.pairs)
    return result


def is_changed(old: MatchRow, new: MatchRow, *, comparable: bool) -> bool:
    """Whether a record changed between the two: by its time, else by its contents."""
    if old.time is not None and new.time is not None and old.time != new.time:
        return True
    if old.key == new.key and old.hash == new.hash:
        return False
    if comparable and old.plain_hash is not None and new.plain_hash is not None:
        return old.plain_hash != new.plain_hash
    return comparable and old.key == new.key


def _comparable(old: Iterable[MatchRow], new: Iterable[MatchRow], pairs: Mapping[str, str]) -> bool:
    after = {row.key: row for row in new}
    same = differ = 0
    for row in old:
        other = after.get(pairs.get(row.key, ""))
        if other is None or row.time != other.time or None in (row.plain_hash, other.plain_hash):
            continue
        differ += row.plain_hash != other.plain_hash
        same += row.plain_hash == other.plain_hash
    return differ < LEAST_EVIDENCE or differ <= INCOMPARABLE * (same + differ)


def _by_keys(
    old: Sequence[MatchRow],
    new: Sequence[MatchRow],
    certain: Mapping[str, str],
    natural: "_Natural",
) -> tuple[dict[str, str] | None, int | None]:
    """Pairs by a rule about keys and the suffix it is about (None: whole keys); None if none holds.

    What the rule is, is read off pairs that are known otherwise.
    """
    hashes = {row.key: row.hash for row in old}
    evidence = {row.key: row.key for row in new if hashes.get(row.key) == row.hash} | dict(certain)
    if len(evidence) < LEAST_EVIDENCE:
        for of in (_plain, _time):
            evidence = _unique_pairs(old, new, of) | evidence
    if not evidence:
        return None, None
    contradicting = int(MOST_CONTRADICTIONS * len(evidence))
    if sum(a != b for a, b in evidence.items()) <= contradicting:
        pairs = _pair_by(old, new, lambda key: key)
        return _believed(pairs, evidence, natural), None
    shared = sorted(_shared_end(a, b) for a, b in evidence.items())
    length = shared[contradicting]
    if len(evidence) < LEAST_EVIDENCE or length < SHORTEST_SUFFIX:
        return None, None
    return _believed(_pair_by(old, new, lambda key: key[-length:]), evidence, natural), length


def _believed(
    pairs: Mapping[str, str], evidence: Mapping[str, str], natural: "_Natural"
) -> dict[str, str] | None:
    """Those of `pairs` that nothing contradicts; None where too much does, or too few are known."""
    kept = {
        key: other
        for key, other in pairs.items()
        if evidence.get(key, other) == other and not natural.contradicts(key, other)
    }
    wrong = len(pairs) - len(kept)
    missing = sum(key not in pairs for key in evidence)
    if not kept or wrong > MOST_CONTRADICTIONS * len(pairs):
        return None
    return kept if missing <= MISSING_EVIDENCE * len(evidence) else None


def _pair_by(
    old: Sequence[MatchRow], new: Sequence[MatchRow], token: Callable[[str], str]
) -> dict[str, str]:
    """Pairs whose tokens are the same, and nobody else's."""
    before, after = (
        _unique((token(row.key), row.key) for row in old),
        _unique((token(row.key), row.key) for row in new),
    )
    return {key: after[shared] for shared, key in before.items() if shared in after}


def _unique_pairs(
    old: Sequence[MatchRow], new: Sequence[MatchRow], of: Callable[[MatchRow], object | None]
) -> dict[str, str]:
    before = _unique((value, row.key) for row in old if (value := of(row)) is not None)
    after = _unique((value, row.key) for row in new if (value := of(row)) is not None)
    return {key: after[value] for value, key in before.items() if value in after}


def _unique(items: Iterable[tuple[T, str]]) -> dict[T, str]:
    pairs_found: dict[T, str] = {}
    twice: set[T] = set()
    for value, key in items:
        if value in pairs_found:
            twice.add(value)
        pairs_found[value] = key
    for value in twice:
        del pairs_found[value]
    return pairs_found


def _plain(row: MatchRow) -> object | None:
    return row.plain_hash


def _time(row: MatchRow) -> object | None:
    return row.time


def _shared_end(text: str, other: str) -> int:
    length = 0
    for mine, theirs in zip(reversed(text), reversed(other), strict=False):
        if mine != theirs:
            break
        length += 1
    return length


Parts = tuple[str, ...]


class _Natural:
    """Matching by natural keys; keys of other records in them are translated as they are learnt."""

    def __init__(
        self, old: Sequence[MatchRow], new: Sequence[MatchRow], fields: Sequence[str]
    ) -> None:
        self._references = [n for n, name in enumerate(fields) if is_reference(name)]
        self._fixed = [n for n, name in enumerate(fields) if name in NUMBERS or name.endswith("At")]
        self._number = next((n for n, name in enumerate(fields) if name in NUMBERS), None)
        mine = signature(tuple(fields)) if fields else None
        self.new = _parts(new, mine)
        raw = _parts(old, mine)
        self._translations = self._learn(raw, self.new) if self._references else {}
        self.old = {key: self._translated(parts) for key, parts in raw.items()}
        self._old_by, self._new_by = _keys_by(self.old), _keys_by(self.new)

    def pairs(self) -> dict[str, str]:
        """Those whose natural key nobody else has, on either side."""
        return {
            keys[0]: others[0]
            for parts, keys in self._old_by.items()
            if len(keys) == 1 and len(others := self._new_by.get(parts, [])) == 1
        }

    def contradicts(self, old: str, new: str) -> bool:
        """Whether one of the two is known to be another record."""
        mine, theirs = self.old.get(old), self.new.get(new)
        if mine is None or theirs is None or mine == theirs:
            return False
        return mine in self._new_by or theirs in self._old_by

    def nearly(self, pairs: Mapping[str, str]) -> dict[str, str]:
        """Return those not in `pairs` that differ in one field that people edit.

        Its number and all else must be the same, and nobody else's.
        """
        matched: dict[str, str] = {}
        taken = set(pairs.values())
        width = len(next(iter(self.old.values()), Parts()))
        for dropped in (n for n in range(width) if n not in self._fixed):
            if self._number is None or width < 3:
                break

            def but_one(parts: Parts, dropped: int = dropped) -> Parts:
                return (*parts[:dropped], *parts[dropped + 1 :])

            before = _unique((but_one(p), k) for k, p in self.old.items() if p[self._number])
            after = _unique((but_one(p), k) for k, p in self.new.items() if p[self._number])
            for parts, key in before.items():
                other = after.get(parts)
                if other is None or sum(map(bool, parts)) < 2:
                    continue
                if key not in pairs and key not in matched and other not in taken:
                    matched[key] = other
                    taken.add(other)
        return matched

    def groups(self, pairs: Mapping[str, str]) -> list[tuple[list[str], list[str]]]:
        """Those not in `pairs` with the same natural key, or else the same number."""
        taken = set(pairs.values())
        groups = []
        seen_old, seen_new = set(pairs), set(taken)
        for of in (self._whole, self._by_number):
            before: defaultdict[object, list[str]] = defaultdict(list)
            after: defaultdict[object, list[str]] = defaultdict(list)
            for held, seen, side in (
                (self.old, seen_old, before),
                (self.new, seen_new, after),
            ):
                for key, parts in held.items():
                    if key not in seen and (shared := of(parts)) is not None:
                        side[shared].append(key)
            for shared, keys in before.items():
                if shared in after:
                    groups.append((keys, after[shared]))
                    seen_old.update(keys)
                    seen_new.update(after[shared])
        return groups

    def _whole(self, parts: Parts) -> object | None:
        # A key of another record that nobody could translate doesn't tell two apart.
        return tuple(part for n, part in enumerate(parts) if n not in self._references) or None

    def _by_number(self, parts: Parts) -> object | None:
        return (parts[self._number] or None) if self._number is not None else None

    def _learn(
        self, old: Mapping[str, Parts], new: Mapping[str, Parts]
    ) -> dict[int, dict[str, str]]:
        """What keys of other records are now, by most of the records that are alike in the rest."""
        before = _unique((self._whole(parts), key) for key, parts in old.items())
        after = _unique((self._whole(parts), key) for key, parts in new.items())
        votes: dict[int, defaultdict[str, Counter[str]]] = {
            n: defaultdict(Counter) for n in self._references
        }
        for shared, key in before.items():
            if shared in after:
                for n in self._references:
                    mine, theirs = old[key][n], new[after[shared]][n]
                    if mine and theirs:
                        votes[n][mine][theirs] += 1
        learnt: dict[int, dict[str, str]] = {}
        for n, by_key in votes.items():
            tops = {mine: counts.most_common(1)[0] for mine, counts in by_key.items()}
            learnt[n] = {
                mine: top for mine, (top, count) in tops.items() if 2 * count > by_key[mine].total()
            }
        return learnt

    def _translated(self, parts: Parts) -> Parts:
        if not self._references:
            return parts
        changed = list(parts)
        for n in self._references:
            changed[n] = self._translations.get(n, {}).get(parts[n], parts[n])
        return tuple(changed)


def _parts(rows: Iterable[MatchRow], mine: str | None) -> dict[str, Parts]:
    by_key: dict[str, Parts] = {}
    for row in rows:
        if row.natural_key is not None:
            made_from, *parts = row.natural_key.split(".")
            if made_from == mine:
                by_key[row.key] = tuple(parts)
    return by_key


def _keys_by(held: Mapping[str, Parts]) -> dict[Parts, list[str]]:
    keys: defaultdict[Parts, list[str]] = defaultdict(list)
    for key, parts in held.items():
        keys[parts].append(key)
    return dict(keys)
