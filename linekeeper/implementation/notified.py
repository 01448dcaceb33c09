"""What people were notified of when an implementation slipped. Pure.

It is stored as JSON, in `implementation.notified`. Schemas before 0063 have it as lines of text,
which the version before goes on to write and read while this one takes over: what does that is at
the end, marked "of before", and can go once no migration `serves` such a schema any more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple, Self

WELL_AFTER = timedelta(days=1)
"""How long a promised date has to be kept until its being at risk, or late, is news again."""


class Sign(NamedTuple):
    """One thing by which an implementation slips."""

    kind: str
    """`overdue` or `soon`, of a gate; a health, of a connection; `commitment`, of its date."""
    subject: str
    """The gate, the connection's id, or `at risk` or `late`."""


@dataclass(frozen=True, slots=True)
class NotifiedSlip:
    """The signs of the slip people were last notified of, and what was said of the promised date.

    That is remembered until the date was well for a day: one that hovers is announced once so.
    """

    signs: tuple[Sign, ...] = ()
    promised: date | None = None
    said: tuple[str, ...] = ()
    """What the promised date was said to be: `at risk`, `late`."""
    well_since: datetime | None = None
    """Since when the promised date, of which something was said, is kept again."""

    def news(self, signs: Iterable[Sign], promised: date | None) -> set[Sign]:
        """Those of `signs` that are news; `promised` is the date they are about."""
        return {*signs} - known((*self.signs, *self._said_of(promised)))

    def after(
        self,
        signs: Sequence[Sign],
        promised: date | None,
        commitment: str,
        now: datetime,
        *,
        unread: bool,
    ) -> Self:
        """What is remembered once `signs` were notified. `unread`: what was to be said waits."""
        said = set() if unread else {sign.subject for sign in self._said_of(promised)}
        anew = replace(self, signs=tuple(signs), promised=promised, well_since=None)
        if commitment in ("at risk", "late"):
            return replace(anew, said=tuple(sorted(said | {commitment})))
        since = self.well_since or now
        if not said or now - since >= WELL_AFTER:
            return replace(anew, promised=None, said=())
        return replace(anew, said=tuple(sorted(said)), well_since=since)

    def without(self, signs: set[Sign], *, promise: bool) -> Self:
        """Forget that `signs` were notified, and with `promise` all that was said of the date."""
        left = tuple(sign for sign in self.signs if sign not in signs)
        if not promise:
            return replace(self, signs=left)
        return replace(self, signs=left, promised=None, said=(), well_since=None)

    def as_json(self) -> dict[str, Any]:
        """What is stored."""
        return {
            "signs": [sign._asdict() for sign in self.signs],
            "promised": self.promised.isoformat() if self.promised else None,
            "said": [*self.said],
            "well_since": self.well_since.isoformat() if self.well_since else None,
        }

    def _said_of(self, promised: date | None) -> list[Sign]:
        is_same = self.promised == promised
        return [Sign("commitment", state) for state in self.said if is_same]


def known(signs: Iterable[Sign]) -> set[Sign]:
    """What is no news after `signs`: these, and that it is not as bad any more."""
    known_signs = set(signs)
    if Sign("commitment", "late") in known_signs:
        known_signs.add(Sign("commitment", "at risk"))
    return known_signs | {Sign("soon", gate) for kind, gate in known_signs if kind == "overdue"}


def notified_of(stored: Mapping[str, Any] | None, of_before: str) -> NotifiedSlip:
    """What is stored; `of_before` is the text, which the version before may have written since."""
    notified = NotifiedSlip()
    if stored is not None:
        notified = NotifiedSlip(
            tuple(Sign(**sign) for sign in stored["signs"]),
            date.fromisoformat(stored["promised"]) if stored["promised"] else None,
            tuple(stored["said"]),
            datetime.fromisoformat(stored["well_since"]) if stored["well_since"] else None,
        )
    return notified if as_text(notified) == of_before else _from_text(of_before)


def signs_in(payload: Mapping[str, Any]) -> list[Sign]:
    """What a message that waits is about."""
    if "about" in payload:
        return [Sign(**sign) for sign in payload["about"]]
    return [_sign_from(name) for name in payload.get("signs", ())]  # of before


def payload_of(signs: Iterable[Sign]) -> dict[str, Any]:
    """What a message says about its signs; with their names, of before."""
    ordered = sorted(signs)
    return {
        "about": [sign._asdict() for sign in ordered],
        "signs": [":".join(sign) for sign in ordered],
    }


_PROMISED, _WELL = "promised ", "well since "


def as_text(notified: NotifiedSlip) -> str:
    """Of before: the text of `implementation.told`."""
    lines = [":".join(sign) for sign in notified.signs]
    lines += [f"{_PROMISED}{notified.promised}:{state}" for state in notified.said]
    if notified.well_since is not None:
        lines.append(f"{_WELL}{notified.well_since.isoformat()}")
    return "\n".join(lines)


def _from_text(text: str) -> NotifiedSlip:
    lines = [line for line in text.split("\n") if line]
    promises = [line.removeprefix(_PROMISED) for line in lines if line.startswith(_PROMISED)]
    well = [line.removeprefix(_WELL) for line in lines if line.startswith(_WELL)]
    return NotifiedSlip(
        tuple(_sign_from(line) for line in lines if not line.startswith((_PROMISED, _WELL))),
        date.fromisoformat(promises[0].partition(":")[0]) if promises else None,
        tuple(promise.partition(":")[2] for promise in promises),
        datetime.fromisoformat(well[0]) if well else None,
    )


def _sign_from(name: str) -> Sign:
    kind, _, subject = name.partition(":")
    return Sign(kind, subject)
