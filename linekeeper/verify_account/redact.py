"""What of an answer may be recorded: its shape, its words that are Makini's, its times. Pure.

Every other text becomes a pseudonym that is the same wherever the text is the same, so that two
pages can be compared and an id with a key.
"""

import hmac
import re
from collections.abc import Collection, Mapping
from typing import Any

from linekeeper.makini.fields import instant

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,39}")
_WORDS = re.compile(r"[A-Za-z0-9_ .:/&()+-]{1,60}")
_TIME_FIELD = re.compile(r".*(_at|At|Date|_date)$")
_NUMBERS = {"page", "per_page", "total", "current_page", "last_page", "from", "to", "expires_in"}
_SEALED = {"user_metadata", "metadata", "credentials", "redirect", "redirects"}
_TOKENS = {"access_token", "refresh_token", "token", "client_secret"}
_HEADERS = re.compile(r"(x-)?rate-?limit.*|retry-after|content-type|date")

MAKINIS_WORDS = frozenset(
    {"status", "sync_status", "integration_name", "provider", "slug", "token_type", "code"}
)
"""Fields whose text is Makini's vocabulary, in answers about connections. Records have none."""
ERROR_WORDS = frozenset({"code", "type", "error", "status"})
"""The same in refusals."""
EVENT_WORDS = frozenset({"event", "type", "event_type"})
"""The same in webhooks."""


class Redactor:
    """Redacts with pseudonyms of one `salt`."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def body(self, value: object, words: Collection[str]) -> Any:
        """`value` (JSON) without what is anybody's; texts in `words` are kept."""
        return self._value("", value, words)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Those about limits, kind and time; of a request id only that there is one."""
        kept = {
            name.lower(): value[:80]
            for name, value in headers.items()
            if _HEADERS.fullmatch(name.lower())
        }
        if any(name.lower() == "x-request-id" for name in headers):
            kept["x-request-id"] = "given"
        return kept

    def pseudonym(self, text: str) -> str:
        """A name for `text` that tells nothing but its length and what it is made of."""
        digest = hmac.digest(self._salt, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:12]
        made_of = "text"
        if text.isascii() and text.isdigit():
            made_of = "digits0" if text.startswith("0") else "digits"
        return f"~{digest}:{len(text)}:{made_of}"

    def _value(self, name: str, value: object, words: Collection[str]) -> Any:
        if name in _TOKENS or name in _SEALED:
            return "~token" if name in _TOKENS else f"~{type(value).__name__}"
        if isinstance(value, list):
            return [self._value(name, entry, words) for entry in value]
        if isinstance(value, dict):
            return self._object(name, value, words)
        if isinstance(value, str):
            return self._text(name, value, words)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value if name in _NUMBERS else 0
        return value

    def _object(self, name: str, value: dict[str, Any], words: Collection[str]) -> dict[str, Any]:
        if name == "links":
            return {key: _link(link) for key, link in value.items() if _FIELD.fullmatch(key)}
        return {
            key if _FIELD.fullmatch(key) else self.pseudonym(key): self._value(key, entry, words)
            for key, entry in value.items()
        }

    def _text(self, name: str, value: str, words: Collection[str]) -> str:
        if name in words and _WORDS.fullmatch(value):
            return value
        if name in _NUMBERS and value.isascii() and value.isdigit():
            return value
        if _TIME_FIELD.fullmatch(name) and instant(value) is not None:
            return value
        return self.pseudonym(value) if value else ""


def _link(value: object) -> str | None:
    """Of a link only the names of its parameters."""
    if not isinstance(value, str):
        return None
    names = re.findall(r"[?&]([A-Za-z_\[\]:]{1,30})=", value)
    return "~link?" + "&".join(names)
