"""What Slack's refusals mean: whom they hit, when to try again, what an operator has to fix."""

from copy import copy
from dataclasses import dataclass
from typing import Literal

from slack_sdk.web.async_slack_response import AsyncSlackResponse

from linekeeper.clock import utcnow
from linekeeper.makini.failures import retry_after as seconds_to_wait

Reach = Literal["channel", "message"]

LONG_WAIT = 600.0
"""Seconds until a refusal that a person has to fix is tried again."""
DEFAULT_RETRY_AFTER = 30.0
ENTRY_TRIES = 6
"""How often an entry that Slack refuses for itself is tried, within about a minute: what comes
after it waits so long."""
UNANSWERED_WAIT = 20.0
"""Seconds until a post is tried again that Slack did not answer in time: it may still be at it, and
a message that isn't there yet is not found."""
LONG_PAUSE = 60.0
"""A channel that is to wait so long counts as out of reach, as one that does not answer."""


_OF_PROXIES = frozenset({502, 504})
"""What stands between says so, whatever Slack did."""
_NOT_OFFERED = frozenset({404, 405, 501})


class SlackTrouble(Exception):
    """Slack did not do what was asked. `text` says why, `fix` what to do, and `str()` both.

    `reach` is `channel` if the next message would fare no better. `wait` is in seconds; None
    leaves it to the usual back-off. A message that `may_stand` was perhaps taken all the same.
    What is not `offered` was answered, but not in Slack's way: to try again changes nothing.
    """

    def __init__(
        self,
        text: str,
        *,
        fix: str = "",
        code: str = "",
        reach: Reach = "message",
        wait: float | None = None,
        may_stand: bool = False,
        offered: bool = True,
    ) -> None:
        super().__init__(f"{text}: {fix}" if fix else text)
        self.text = text
        self.fix = fix
        self.code = code
        self.reach: Reach = reach
        self.wait = wait
        self.may_stand = may_stand
        self.offered = offered

    @property
    def passing(self) -> bool:
        """Slack is busy, broken or out of reach, rather than refusing."""
        return self.code in _PASSING or self.code == ""

    @property
    def is_brief(self) -> bool:
        """Slack asks for no longer a pause than a busy channel has now and then."""
        return self.code == "ratelimited" and (self.wait or 0.0) < LONG_PAUSE

    @property
    def is_about_text(self) -> bool:
        """Slack refuses what the message says: another text may get through."""
        return self.reach == "message" and self.code not in UNEDITABLE | NO_REPLIES

    def of_channel(self) -> "SlackTrouble":
        """The same, where no text gets through."""
        return self._reaching("channel")

    def of_message(self) -> "SlackTrouble":
        """The same, where it says nothing of the channel that messages are posted to."""
        return self._reaching("message")

    def _reaching(self, reach: Reach) -> "SlackTrouble":
        same = copy(self)
        same.reach = reach
        return same


@dataclass(frozen=True, slots=True)
class _Meaning:
    fix: str
    reach: Reach = "channel"


_TOKEN = _Meaning("put a valid bot token (xoxb-…) into the SlackChannel block")
_CHANNEL = _Meaning("put an existing channel (best its id, C…) into the SlackChannel block")
_POLICY = _Meaning(
    "a workspace policy forbids it: ask a Slack administrator, or take another channel"
)
_TOO_MUCH = _Meaning("the text could not be shown", "message")

_REFUSALS = {
    "not_authed": _TOKEN,
    "invalid_auth": _TOKEN,
    "account_inactive": _TOKEN,
    "token_revoked": _TOKEN,
    "token_expired": _TOKEN,
    "not_allowed_token_type": _TOKEN,
    "missing_scope": _Meaning("give the Slack app the scope chat:write and install it again"),
    "no_permission": _Meaning("give the Slack app the scope chat:write and install it again"),
    "channel_not_found": _CHANNEL,
    "is_archived": _Meaning("unarchive the channel, or name another in the SlackChannel block"),
    "not_in_channel": _Meaning("invite the bot into the channel: /invite @<its name>"),
    "restricted_action": _POLICY,
    "restricted_action_read_only_channel": _POLICY,
    "restricted_action_thread_only_channel": _POLICY,
    "team_access_not_granted": _POLICY,
    "ekm_access_denied": _POLICY,
    "org_login_required": _POLICY,
    "access_denied": _POLICY,
    "msg_too_long": _TOO_MUCH,
    "no_text": _TOO_MUCH,
    "unknown_method": _Meaning("the Slack URL in the SlackChannel block is not Slack's Web API"),
}
_PASSING = frozenset(
    {
        "ratelimited",
        "rate_limited",
        "message_limit_exceeded",
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout",
        "team_added_to_org",
    }
)
_LIMITS = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})

GONE = frozenset({"message_not_found", "thread_not_found", "parent_message_not_found"})
"""The message was deleted by hand."""
UNEDITABLE = GONE | {
    "cant_update_message",
    "edit_window_closed",
    "is_inactive",
    "update_failed",
    "cant_broadcast_message",
}
"""The message can't be edited: it is posted anew."""
MOVED = frozenset({"channel_not_found", "is_archived", "not_in_channel"})
"""The channel of a message that is there already can't be written to. The one that has its name now
may be another: only what is posted anew shows it."""
NO_REPLIES = frozenset(
    {
        "restricted_action_thread_locked",
        "restricted_action_non_threadable_channel",
        "cannot_reply_to_message",
    }
)
"""The message, or its channel, takes no replies."""


def refused(code: str, *, needed: str = "", detail: str = "") -> SlackTrouble:
    """The trouble for an answer `{"ok": false, "error": code}`."""
    if code in _PASSING:
        return busy(code)
    meaning = _REFUSALS.get(code, _Meaning("see Slack's documentation of this error", "message"))
    fix = meaning.fix.replace("chat:write", needed) if needed else meaning.fix
    reason = f" ({detail})" if detail else ""
    return SlackTrouble(
        f"Slack refuses: {code}{reason}",
        fix=fix,
        code=code,
        reach=meaning.reach,
        wait=LONG_WAIT,
    )


def busy(code: str, *, retry_after: float | None = None) -> SlackTrouble:
    """Slack asks to wait, or is not well."""
    if code in _LIMITS:
        wait = DEFAULT_RETRY_AFTER if retry_after is None else max(1.0, retry_after)
        return SlackTrouble(
            f"Slack asks to wait {wait:.0f} s (too many messages)",
            code="ratelimited",
            reach="channel",
            wait=wait,
        )
    return SlackTrouble(f"Slack is not well: {code}", code=code, reach="channel", wait=retry_after)


def unreachable(
    what: str, *, wait: float | None = None, may_stand: bool, offered: bool = True
) -> SlackTrouble:
    """No answer of Slack's; whether it did what was asked is not known where it `may_stand`."""
    text = f"Slack does not answer: {what}"
    return SlackTrouble(text, reach="channel", wait=wait, may_stand=may_stand, offered=offered)


def trouble_of(response: object, *, posting: bool) -> SlackTrouble:
    """Return the trouble in slack-sdk's response, or aiohttp's where the body was no JSON."""
    data = response.data if isinstance(response, AsyncSlackResponse) else None
    status = int(getattr(response, "status_code", None) or getattr(response, "status", None) or 0)
    headers = getattr(response, "headers", None) or {}
    code = str(data.get("error") or "") if isinstance(data, dict) else ""
    if status == 429 or code in ("ratelimited", "rate_limited"):
        asked = seconds_to_wait(headers.get("Retry-After"), utcnow())
        return busy("ratelimited", retry_after=asked)
    if not isinstance(data, dict) or not code:
        text = f"HTTP {status} without an answer of Slack's"
        # An empty one stands for whatever is no JSON: a page of what stands between, for a moment.
        is_anothers = isinstance(data, dict) and bool(data) and status < 500
        offered = not is_anothers and status not in _NOT_OFFERED
        return unreachable(text, may_stand=posting and status in _OF_PROXIES, offered=offered)
    if status >= 500:
        return busy(code)
    messages = (data.get("response_metadata") or {}).get("messages") or []
    return refused(code, needed=str(data.get("needed") or ""), detail="; ".join(map(str, messages)))
