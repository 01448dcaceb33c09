"""What a recording says of the app's token, its list of connections and its errors. Pure."""

import re
from collections import Counter
from collections.abc import Sequence

from linekeeper.makini.fields import number
from linekeeper.makini.models import normalise_status
from linekeeper.text import counted
from linekeeper.verify_account.question import (
    Assumption,
    AssumptionFinding,
    decided,
    not_seen,
    otherwise,
    so,
)
from linekeeper.verify_account.recording import Exchange, of

_FIELDS = ("key", "name", "email", "status", "integration_name", "created_at", "updated_at")
_NOT_REACHED = "the list was not read yet: run it again"


def _expiry(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    values = [exchange.inner.get("expires_in") for exchange in of(exchanges, "token")]
    numbers = [value for value in map(number, values) if value is not None]
    if not numbers:
        return not_seen("the token's answer has no expires_in that is a number")
    absolute = numbers[0] > 10**9
    return decided(absolute, f"expires_in is {numbers[0]:.0f}")


def _paging(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    small, cursor = of(exchanges, "list/small"), of(exchanges, "list/cursor")
    if not small or not cursor:
        return not_seen(_NOT_REACHED)
    if any(_cursor(exchange) for exchange in small):
        return otherwise("a page has a next_cursor", MAKINI_PAGING="cursor")
    first, second = _keys(small[0]), _keys(small[1])
    style = {"MAKINI_PAGING": "cursor"} if _cursor(cursor[0]) else {}
    if small[1].status >= 300:
        return otherwise(f"page 2 is refused with {small[1].status}", **style)
    if first and first == second:
        return otherwise("page 2 is page 1 again: page is ignored", **style)
    if not second:
        return not_seen("there are too few connections for a second page of two")
    says = "meta.last_page" if "last_page" in small[0].meta else "no meta.last_page"
    return so(f"page 2 goes on after page 1, with {says}", MAKINI_PAGING="page")


def _per_page(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    pages = of(exchanges, "list/small")
    if not pages:
        return not_seen(_NOT_REACHED)
    got = len(pages[0].rows)
    if got < 2:
        return not_seen(f"the list has {counted(got, 'connection')}: too few to tell")
    return decided(got == 2, f"2 a page were asked for, {got} came")


def _cap(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    pages, whole = of(exchanges, "list/cap"), of(exchanges, "list/whole")
    if not pages:
        return not_seen(_NOT_REACHED)
    return page_cap(pages[0], sum(len(page.rows) for page in whole))


def page_cap(big: Exchange, known: int) -> AssumptionFinding:
    """What the answer to a page of 1,000 says of the largest one; `known` rows there are."""
    if big.status >= 300:
        return otherwise(f"a page of 1,000 is refused with {big.status}: keep to 100")
    got, said = len(big.rows), big.meta.get("per_page")
    if isinstance(said, int) and 0 < said < 1000:
        return decided(100 <= said <= 500, f"of 1,000 asked for, at most {said} come a page")
    total = big.meta.get("total")
    there = total if isinstance(total, int) else known
    if got < there:
        return decided(100 <= got <= 500, f"of 1,000 asked for, {got} of {there} came")
    if got and _cursor(big):
        return decided(100 <= got <= 500, f"of 1,000 asked for, {got} came, and a cursor to more")
    if got > 500:
        return otherwise(f"{got} came in one page: no cap up to there")
    return not_seen(f"there are only {got}: too few to tell")


def _total(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    pages = of(exchanges, "list/whole")
    if not pages:
        return not_seen(_NOT_REACHED)
    keys = [key for page in pages for key in _keys(page)]
    if pages[0].status >= 300:
        return otherwise(f"the list is refused with {pages[0].status}")
    totals = [page.meta["total"] for page in pages if isinstance(page.meta.get("total"), int)]
    if not totals:
        return otherwise(f"no meta.total; {counted(len(keys), 'connection')} came")
    different = len(set(keys))
    twice = f", {len(keys) - different} of them twice" if len(keys) != different else ""
    return decided(
        different == totals[-1] and not twice,
        f"meta.total is {totals[-1]}, {different} different connections came{twice}",
    )


def _links(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    pages = [page for page in of(exchanges, "list/small") if isinstance(page.body, dict)]
    links = [page.body["links"] for page in pages if isinstance(page.body.get("links"), dict)]
    following = [link.get("next") for link in links if link.get("next")]
    if not following:
        return not_seen("no answer has a link to the next page")
    return decided(
        "per_page" in following[0],
        f"the link to the next page carries: {following[0].partition('?')[2] or 'nothing'}",
    )


def _fields(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    pages = of(exchanges, "list/small")
    rows = [row for page in pages for row in page.rows]
    if not rows:
        return not_seen("the list has no connections" if pages else _NOT_REACHED)
    names = set[str]().union(*rows)
    missing = [name for name in _FIELDS if name not in names]
    unknown = ", ".join(sorted(names - set(_FIELDS))) or "none"
    if missing:
        return otherwise(f"missing: {', '.join(missing)}; others: {unknown}")
    return so(f"all {len(_FIELDS)} are there; others: {unknown}")


def _id_is_key(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    rows = [row for page in of(exchanges, "list/small") for row in page.rows]
    statuses = [
        exchange.inner
        for exchange in of(exchanges, "status/")
        if exchange.status < 300 and exchange.path.endswith("/current")
    ]
    listed = {
        row["key"] for page in of(exchanges, "list/whole") for row in page.rows if "key" in row
    }
    both = [row for row in rows if row.get("key") and row.get("id")]
    if any(row["key"] != row["id"] for row in both):
        return otherwise("listed connections have an id that differs from their key")
    named = [status["id"] for status in statuses if status.get("id")]
    if any(name not in listed for name in named):
        return otherwise("the id in a connection's own status is no key of the list")
    if both or named:
        return so(f"compared in {len(both)} listed connections and {len(named)} statuses")
    if not rows:
        return not_seen(_NOT_REACHED)
    return not_seen("the list has no id; --data compares it with a connection's own status")


def _statuses(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    pages = of(exchanges, "list/whole")
    rows = [row for page in pages for row in page.rows]
    if not rows:
        return not_seen("the list has no connections" if pages else _NOT_REACHED)
    words = Counter(str(row.get("status", "(missing)")) for row in rows)
    unknown = [word for word in words if normalise_status(word) == "unknown"]
    counted = ", ".join(f"{word}: {count}" for word, count in words.most_common(10))
    return decided(not unknown, counted)


def grain(times: Sequence[str]) -> AssumptionFinding:
    """How exact times are: digits after the second, whole seconds, or coarser."""
    if not times:
        return not_seen("no times were seen")
    fractions = [time for time in times if re.search(r"\.\d*[1-9]", time)]
    zoned = all(re.search(r"(Z|[+-]\d\d:?\d\d)$", time) for time in times)
    seconds = any(not re.search(r"(:00(\.0+)?(Z|[+-]\d\d:?\d\d)?)$", time) for time in times)
    zone = "" if zoned else "; without a time zone, taken as UTC"
    if fractions:
        return decided(zoned, f"finer than a second in {len(fractions)} of {len(times)}{zone}")
    if seconds or len(times) < 5:
        return decided(zoned, f"whole seconds in {len(times)}{zone}")
    return otherwise(f"no finer than a minute in {len(times)}{zone}")


def _list_grain(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    rows = [row for page in of(exchanges, "list/whole") for row in page.rows]
    return grain([row["updated_at"] for row in rows if isinstance(row.get("updated_at"), str)])


def _unauthorized(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    refused = [exchange for exchange in of(exchanges, "refusals") if exchange.who == "nobody"]
    if not refused:
        return not_seen(_NOT_REACHED)
    return _error(refused[0], expected=401)


def _not_found(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    refused = [exchange for exchange in of(exchanges, "refusals") if exchange.who == "app"]
    if not refused:
        return not_seen(_NOT_REACHED)
    return decided(refused[0].status == 404, f"answered {refused[0].status}")


def _error(exchange: Exchange, *, expected: int) -> AssumptionFinding:
    if exchange.status != expected:
        return otherwise(f"answered {exchange.status}")
    if not isinstance(exchange.body, dict):
        return otherwise(f"{expected}, with a body that is no JSON object")
    names = ", ".join(sorted(exchange.body))
    request_id = "given" if "x-request-id" in exchange.headers else "not given"
    says_code = any(exchange.body.get(name) for name in ("code", "error"))
    return decided(says_code, f"{expected}; fields: {names}; X-Request-Id {request_id}")


def _limits(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    calls = [exchange for exchange in exchanges if exchange.method != "WEBHOOK"]
    refused = sum(exchange.status == 429 for exchange in calls)
    for exchange in calls:
        for name, value in exchange.headers.items():
            if re.fullmatch(r"(x-)?ratelimit-limit", name) and value.split(",")[0].isdigit():
                return so(f"{name}: {value}", MAKINI_PER_MINUTE=value.split(",")[0])
    if not calls:
        return not_seen("no call was made yet")
    return not_seen(f"no limit is stated in {len(calls)} answers; {refused} were refused with 429")


def _client(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    calls = of(exchanges, "client")
    if not calls:
        return not_seen(_NOT_REACHED)
    said = ", ".join(f"{call.path.rpartition('/')[2]}: {call.status}" for call in calls)
    return decided(all(call.status < 300 for call in calls), said)


def _keys(exchange: Exchange) -> list[str]:
    return [str(row.get("key") or row.get("id")) for row in exchange.rows]


def _cursor(exchange: Exchange) -> bool:
    body = exchange.body if isinstance(exchange.body, dict) else {}
    return bool(body.get("next_cursor") or body.get("nextCursor"))


QUESTIONS = (
    Assumption("token-expiry", "expires_in is an absolute Unix time in seconds", _expiry),
    Assumption("app-routes", "the app can read its own entry and the platforms", _client),
    Assumption("list-paging", "the list is paged by page and per_page", _paging),
    Assumption("list-per-page", "per_page is obeyed", _per_page),
    Assumption("list-page-cap", "a page holds at most 100 to 500 connections", _cap),
    Assumption("list-total", "meta.total is how many different connections come", _total),
    Assumption("list-links", "links carry the whole query", _links),
    Assumption("list-fields", "listed connections have the documented fields", _fields),
    Assumption("id-is-key", "a connection's id is its key", _id_is_key),
    Assumption("status-words", "the list's statuses are the documented ones", _statuses),
    Assumption("list-times", "the list's times are ISO-8601 in UTC", _list_grain),
    Assumption("error-unauthorized", "a bad token gets 401 with a code", _unauthorized),
    Assumption("error-not-found", "an unknown route gets 404", _not_found),
    Assumption("rate-limit", "answers state the call limit", _limits),
)
