"""A Makini that answers the open questions as an operator's account did, by its recording.

What `linekeeper verify-account` saw decides; what it didn't see is drawn from the seed as ever.
"""

from pathlib import Path
from typing import Any

from linekeeper.verify_account.question import AccountAnswer, Confirmation
from linekeeper.verify_account.recording import read_recording
from linekeeper.verify_account.service import answer_all


def personality_of(file: Path) -> dict[str, Any]:
    """The fields of a `Personality` that the recording decides. Raises `SystemExit`, `OSError`."""
    if not file.exists():
        raise SystemExit(f"{file} is not there: `linekeeper verify-account` makes such a file")
    exchanges = read_recording(file)
    if not exchanges:
        raise SystemExit(f"{file} is no recording of verify-account: nothing in it can be read")
    answers = {answer.question: answer for answer in answer_all(exchanges)}
    found: dict[str, Any] = {}

    def decide(question: str, name: str, as_documented: Any, otherwise: Any) -> None:
        verdict = answers[question].verdict
        if verdict is Confirmation.seen_so:
            found[name] = as_documented
        elif verdict is Confirmation.seen_otherwise:
            found[name] = otherwise

    decide("list-paging", "paging", "page", "cursor")
    decide("changed-since", "since", "filter", _advised(answers["changed-since"], "MAKINI_SINCE"))
    decide("token-expiry", "expires_in", "absolute", "relative")
    decide("mint-lifetime", "mint", "short", "long")
    decide("mint-keeps", "mint_kills", False, True)
    decide("login-keeps", "keeps_id", True, False)
    decide("event-connection", "webhook_connection", "url", "connection_id")
    if found.get("keeps_id"):
        found["renames_keys"] = False
    limit = _advised(answers["rate-limit"], "MAKINI_PER_MINUTE")
    if limit.isdigit():
        found["per_minute"] = int(limit)
    return found


def _advised(answer: AccountAnswer, setting: str) -> str:
    """What the answer says to set; `none` where there is nothing that helps."""
    return str(dict(answer.settings).get(setting, "none"))
