"""Turning a failed answer, or none at all, into a MakiniError. Total: any bytes will do."""

import codecs
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import httpx
import orjson

from linekeeper.exact import loads, whole_number
from linekeeper.makini.errors import ErrorKind, MakiniError
from linekeeper.makini.fields import clean, mapping, number, text
from linekeeper.tls import tls_trouble

MESSAGE_LIMIT = 300
CODE_LIMIT = 100
MAX_RETRY_AFTER = 3600.0
"""Seconds; a longer Retry-After is obeyed for this long, then asked again."""

_TITLE = re.compile(r"<title[^>]*>([^<]*)<", re.IGNORECASE)
_BY_STATUS = {
    401: ErrorKind.unauthorized,
    403: ErrorKind.forbidden,
    404: ErrorKind.not_found,
    408: ErrorKind.timeout,
    429: ErrorKind.rate_limited,
}


def stated_failure(status: int, body: bytes) -> int | None:
    """The status that the errors in an answer with a 2xx `status` stand for; None without errors.

    An adapter's errors come as `{"status", "errors": […]}` (MAKINI "Found since"), also beside a
    list: what is in it then is not the whole page. Beside one object (`data`) they are about it.
    The status is the one that the errors state, or `status` where they state none.
    """
    if b'"errors"' not in body:
        return None
    try:
        top = mapping(orjson.loads(body.removeprefix(codecs.BOM_UTF8)))
    except orjson.JSONDecodeError:
        return None  # whoever reads it says so
    errors = top.get("errors")
    inner = top.get("data", top)
    is_there = isinstance(inner, dict) and any(inner.get(name) for name in _IDENTITY)
    if not errors or is_there:
        return None
    entries = errors if isinstance(errors, list) else [errors]
    said = [number(mapping(entry).get("status")) for entry in (top, *entries)]
    return next((int(each) for each in said if each and 400 <= each < 600), status)


_IDENTITY = ("key", "id", "sync_status", "access_token", "token")
"""What an answer about one thing has, whatever else it says."""


def kind_of_status(status: int) -> ErrorKind:
    """Return what an HTTP status means that is not 2xx, or 2xx with errors in the answer."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return ErrorKind.rejected
    if status >= 500 or 200 <= status < 300:
        return ErrorKind.unavailable
    return ErrorKind.malformed


def from_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    app: str,
    connection: str | None,
    now: datetime,
    secrets: Iterable[str] = (),
) -> MakiniError:
    """Return the error that a failed answer stands for. Anything in `secrets` is blanked out.

    Reads Makini's shapes and Laravel's (MAKINI "Data API", errors); `now` is for an HTTP date in
    Retry-After, where the answer doesn't say what time it is there.
    """
    code, message, request_id = read_error_body(body, secrets)
    if not message and 300 <= status < 400:
        message = f"it redirects to {clean(headers.get('location', 'nowhere'), 100)}"
    return MakiniError(
        kind_of_status(status),
        message,
        app=app,
        connection=connection,
        code=code,
        request_id=clean(headers.get("x-request-id", ""), CODE_LIMIT) or request_id,
        status=status,
        retry_after=retry_after(headers.get("retry-after"), their_now(headers, now)),
    )


def from_exception(
    error: Exception, *, app: str, connection: str | None, timeout: float
) -> MakiniError:
    """Return the error for an exchange that broke off: time-out, no way through, no HTTP."""
    # The aiohttp transport reports every lost connection as httpx.ConnectTimeout; the cause knows.
    wrapped = isinstance(error, httpx.HTTPError) and error.__cause__ is not None
    cause = error.__cause__ if wrapped else error
    if isinstance(cause, TimeoutError) or isinstance(error, httpx.ReadTimeout | httpx.PoolTimeout):
        return MakiniError(
            ErrorKind.timeout,
            f"no complete answer within {timeout:g} s",
            app=app,
            connection=connection,
        )
    if isinstance(cause, aiohttp.ClientResponseError) or isinstance(error, httpx.DecodingError):
        reason = "it is not valid HTTP" if cause is error else "its body cannot be unpacked"
        return MakiniError(ErrorKind.malformed, reason, app=app, connection=connection)
    reason = tls_trouble(error) or clean(str(cause), MESSAGE_LIMIT) or type(cause).__name__
    return MakiniError(ErrorKind.network, reason, app=app, connection=connection)


def read_json(
    body: bytes, *, app: str, connection: str | None, status: int, request_id: str | None
) -> Any:
    """The JSON of a 2xx answer.

    Raises the error for a body that isn't JSON: cut off, or a page some proxy shows while Makini
    is away. Both pass. A byte order mark before the JSON is passed over, as in webhooks.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return loads(body)
    except orjson.JSONDecodeError as error:
        if b"\\ud" in body or b"\\uD" in body:  # perhaps a lone surrogate
            with suppress(ValueError, RecursionError):
                return json.loads(body, parse_int=whole_number)
        reason = f"invalid or truncated JSON, {clean(str(error), 150)}" if body else "it is empty"
        raise MakiniError(
            ErrorKind.malformed,
            _html_summary(body) or reason,
            app=app,
            connection=connection,
            status=status,
            request_id=request_id,
            retryable=True,
        ) from error


def read_error_body(body: bytes, secrets: Iterable[str] = ()) -> tuple[str, str, str | None]:
    """Return (code, message, request id) from any error body; what isn't there is empty."""
    try:
        top = orjson.loads(body.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError:
        summary = _html_summary(body) or body[:4000].decode("utf-8", "replace")
        return "", _presentable(summary, secrets), None
    if not isinstance(top, dict):
        return "", _presentable(text(top), secrets), None
    inner = mapping(top.get("error"))
    code = text(top.get("code")) or text(inner.get("code"))
    error = text(top.get("error"))
    if not code and error and not any(c.isspace() for c in error):
        code = error
    message = (
        text(top.get("message"))
        or text(inner.get("message"))
        or text(top.get("error_description"))
        or ("" if error == code else error)
    )
    complaints = _complaints(top.get("errors"))
    if complaints and complaints not in message:
        message = f"{message} {complaints}".strip()
    request_id = _first(top, "request_id", "requestId") or _first(inner, "request_id", "requestId")
    return (
        clean(_blank(code, secrets), CODE_LIMIT),
        _presentable(message, secrets),
        clean(request_id, CODE_LIMIT) or None,
    )


def their_now(headers: Mapping[str, str], now: datetime) -> datetime:
    """What time it is by the clock of who answered, by its `Date`: what it dates is of that clock.

    `now` where it doesn't say. Between the two may be a day, if one of them is wrong.
    """
    return http_date(headers.get("date")) or now


def http_date(value: str | None) -> datetime | None:
    """An HTTP date as an aware time; None where it is none."""
    try:
        moment = parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds to wait that a Retry-After header asks for: seconds or an HTTP date."""
    if not value:
        return None
    seconds = number(value)
    if seconds is None:
        moment = http_date(value)
        if moment is None:
            return None
        seconds = (moment - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _first(entry: Mapping[str, Any], *names: str) -> str:
    return next((value for name in names if (value := text(entry.get(name)))), "")


def _complaints(errors: object) -> str:
    """Laravel's `errors`: field → list of sentences; also a plain list of sentences or objects."""
    if isinstance(errors, dict):
        errors = [
            sentence
            for sentences in errors.values()
            for sentence in (sentences if isinstance(sentences, list) else [sentences])
        ]
    if not isinstance(errors, list):
        return ""
    sentences = (text(e.get("message")) if isinstance(e, dict) else text(e) for e in errors[:5])
    return " ".join(sentence for sentence in sentences if sentence)


def _html_summary(body: bytes) -> str:
    start = body[:4000].lstrip().decode("utf-8", "replace")
    if not start.startswith("<"):
        return ""
    title = _TITLE.search(start)
    name = clean(title.group(1), 100) if title else ""
    return f"an HTML page titled “{name}” instead of JSON" if name else "HTML instead of JSON"


def _presentable(message: str, secrets: Iterable[str]) -> str:
    return clean(_blank(message, secrets), MESSAGE_LIMIT)


def _blank(message: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        if secret:
            message = message.replace(secret, "…")
    return message
