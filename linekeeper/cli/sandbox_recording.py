"""A sandbox that differs from Makini's contract as an operator's account did, by its recording.

`linekeeper verify-account` records; each assumption that was seen otherwise has a quirk, or a
setting, of the sandbox that makes it be otherwise there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linekeeper.cli.errors import UserError
from linekeeper.verify_account.question import Answer, Verdict
from linekeeper.verify_account.recording import Exchange, of, read_recording
from linekeeper.verify_account.service import answer_all

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUIRKS: Mapping[str, str] = {
    "token-expiry": "relative-expiry",
    "app-routes": "no-app-routes",
    "list-per-page": "per-page-ignored",
    "list-fields": "fields-renamed",
    "status-words": "status-renamed",
    "list-times": "times-coarse",
    "error-unauthorized": "errors-bare",
    "error-not-found": "unknown-is-400",
    "sync-status": "sync-renamed",
    "record-key": "keys-numbers",
    "record-times": "no-updated-at",
    "sort": "sort-ignored",
    "one-record": "no-single-record",
}
"""By question: the quirk of a Makini of which it was seen otherwise."""


def settings_of(file: Path) -> dict[str, Any]:
    """The sandbox's settings that make it behave as recorded. Raises `UserError`."""
    try:
        exchanges = read_recording(file)
    except OSError as error:
        raise UserError(f"{file} can't be read: {(error.strerror or '').lower()}") from None
    if not exchanges:
        raise UserError(f"{file} is no recording of verify-account: nothing in it can be read")
    answers = {answer.question: answer for answer in answer_all(exchanges)}
    otherwise = {
        name: answer for name, answer in answers.items() if answer.verdict is Verdict.seen_otherwise
    }
    quirks = {_QUIRKS[name] for name in otherwise if name in _QUIRKS}
    quirks |= set(_of_listings(otherwise, exchanges))
    if answers["list-links"].verdict is Verdict.seen_so:
        quirks.add("links-whole")
    found: dict[str, Any] = {"quirks": frozenset(quirks)}
    if "list-paging" in otherwise and _has_cursors(exchanges):
        found["paging"] = "cursor"
    since = otherwise.get("changed-since")
    if since and _advised(since, "MAKINI_SINCE") == "modified_after":
        found["since"] = "modified_after"
    if "id-is-key" in otherwise:
        found |= {"distinct_ids": True, "listed_ids": False}
    if "login-keeps" in otherwise:
        found["login"] = "new"
    if "mint-keeps" in otherwise:
        found["mint_shape"] = "pair"
    if (limit := _advised(answers["rate-limit"], "MAKINI_PER_MINUTE")).isdigit():
        found["per_minute"] = int(limit)
        found["quirks"] |= {"limit-stated"}
    return found


def _of_listings(otherwise: Mapping[str, Answer], exchanges: "Sequence[Exchange]") -> list[str]:
    """Quirks that one question alone doesn't tell apart."""
    quirks = []
    if "list-total" in otherwise:
        listed = [exchange for exchange in exchanges if exchange.meta]
        has_total = any("total" in exchange.meta for exchange in listed)
        quirks.append("total-too-high" if has_total else "no-total")
    if "list-paging" in otherwise and not _has_cursors(exchanges):
        quirks.append("page-ignored")
    if "changed-since" in otherwise and not _advised(otherwise["changed-since"], "MAKINI_SINCE"):
        quirks.append("filter-ignored")
    return quirks


def _has_cursors(exchanges: "Sequence[Exchange]") -> bool:
    """Whether a list that was asked for by page came with a cursor."""
    bodies = [page.body for page in of(exchanges, "list/small") if isinstance(page.body, dict)]
    return any(body.get("next_cursor") or body.get("nextCursor") for body in bodies)


def _advised(answer: Answer, setting: str) -> str:
    return str(dict(answer.settings).get(setting, ""))
