"""Following a listing from page to page. Pure: what to ask next, judged by what came back."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from linekeeper.config import Paging, SinceFilter
from linekeeper.makini.errors import ErrorKind, ListingFault
from linekeeper.makini.fields import count, mapping, text
from linekeeper.makini.models import BrokenListing, RecordPage, parse_rows

KEYS_IN_A_QUERY = 50
CHARACTERS_IN_A_QUERY = 3000
"""Well under the 8 KB that common servers take as a request line, percent-encoded."""

Query = list[tuple[str, str]]


def filter_queries(
    style: SinceFilter,
    since: datetime | None,
    keys: Sequence[str] | None,
    *,
    reverse: bool,
) -> Iterator[Query]:
    """Yield the parameters of each listing needed: one, or one for each bunch of keys.

    With `reverse` the records are asked for with the greatest key first.
    """
    changed = [_since(style, since)] if since is not None else []
    if reverse:
        changed.append(("sort[key]", "1"))
    if keys is None:
        yield changed
        return
    for bunch in _bunches(keys):
        query = [*changed, *(("filter[key]", key) for key in bunch)]
        if len(bunch) > 1:
            query.append(("filterMatch", "any"))
        yield query


def _since(style: SinceFilter, since: datetime) -> tuple[str, str]:
    moment = since.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return ("modified_after" if style == "modified_after" else "filter[updatedAt:gteq]"), moment


def _bunches(keys: Sequence[str]) -> Iterator[list[str]]:
    bunch: list[str] = []
    characters = 0
    for key in dict.fromkeys(keys):
        if bunch and (
            len(bunch) == KEYS_IN_A_QUERY or characters + len(key) > CHARACTERS_IN_A_QUERY
        ):
            yield bunch
            bunch, characters = [], 0
        bunch.append(key)
        characters += len(key)
    if bunch:
        yield bunch


MAX_PAGES = 100_000
"""Ten million records at a hundred a page; a listing beyond it has no end."""
MAX_EMPTY = 3
"""So many pages in a row are asked for in vain, where the source says that more follow."""


def parse_page(value: object) -> RecordPage:
    """Return a page of a listing: `data`, `next_cursor`, `links`, `meta`. Raises WrongShape."""
    top = mapping(value)
    meta = mapping(top.get("meta"))
    sources = (top, meta, mapping(top.get("pagination")))
    return RecordPage(
        records=parse_rows(value),
        next_cursor=next(filter(None, map(_cursor, sources)), None),
        has_more=_has_more(sources, mapping(top.get("links"))),
        last_page=count(meta.get("last_page")),
        total=count(meta.get("total")),
    )


def _cursor(entry: Mapping[str, Any]) -> str | None:
    value = entry.get("next_cursor", entry.get("nextCursor"))
    if isinstance(value, str):
        return value or None  # opaque: sent back as it came
    return text(value) or None


_NEXT = ("next_cursor", "nextCursor")


def _has_more(sources: Sequence[Mapping[str, Any]], links: Mapping[str, Any]) -> bool | None:
    """What an answer says of a next page, by its cursors or its links."""
    said = [entry[name] for entry in sources for name in _NEXT if name in entry]
    said += [links["next"]] if "next" in links else []
    if not said:
        return None
    return not all(
        connection is None or connection is False or connection == "" for connection in said
    )


class Pages:
    """The questions of one listing.

    `style` is what is asked first: the first page, or, for cursors, as many records as `limit`
    says. Then the answer decides: a `next_cursor` is followed, else pages are counted up to
    `meta.last_page`. An answer with neither is the last one if all of `meta.total` have come, if
    it is empty, if it says so itself (`next_cursor` or `links.next` is null), or, where cursors
    are asked for, if it says nothing. A page that is shorter than `per_page` is no end by itself,
    for a source may give fewer a page than it is asked for. `links` are never followed (MAKINI
    "Data API").

    A page that came already is never taken for the end: a source that gives everything at once
    whatever page is asked for looks like one that has more and can't be asked for it. The one
    exception is a page asked for after a short one, of which no more than a total said that
    another follows. Nor is an empty page after which, says the source, others follow: they are
    asked for. `finish` says whether what came has a fault.
    """

    def __init__(self, style: Paging, per_page: int) -> None:
        self._style = style
        self._per_page = per_page
        self._count = 0
        self._size: Query = [("per_page", str(per_page))]
        if style == "cursor":
            self._size.append(("limit", str(per_page)))
        self._question: Query | None = self._size if style == "cursor" else self._page(1)
        self.number = 1
        self._seen: set[int] = set()
        self._cursors: set[str] = set()
        self._broken: BrokenListing | None = None
        self._empty = 0
        """Pages in a row that had nothing, though the source says that more follow."""
        self._total: int | None = None
        self._doubted = False
        """The page before was short, and no more than a total said that another follows it."""
        self._unsaid = False
        """The page before was short, and nothing said whether another follows it."""

    @property
    def question(self) -> Query | None:
        """The query parameters of the next page; None after the last one."""
        return self._question

    def answered(self, page: RecordPage) -> bool:
        """Take in the answer to `question`; False if it is an earlier page over again, the end.

        The listing ends where it repeats a page or a cursor, or has no end, too: see `finish`.
        """
        if self._is_repeated(page):
            if not self._doubted:
                self._break(
                    ListingFault.repeated_page,
                    f"the list repeats page {self.number}{self._hint(page)}",
                )
            self._question = None
            return False
        self._doubted = self._unsaid = False
        self._count += len(page.records)
        self._total = page.total
        self._question = self._next(page)
        self.number += 1
        if self._question is not None and self.number > MAX_PAGES:
            self._break(
                ListingFault.endless, f"the list has no end: {MAX_PAGES} pages and more to come"
            )
            self._question = None
        return True

    def finish(self) -> None:
        """The last question was answered. Raises BrokenListing where what came isn't the whole:
        the listing repeated a page or a cursor, had no end, or left a page empty."""
        if self._broken is None:
            return
        if self._broken.fault is ListingFault.empty_page and self._count == self._total:
            return
        raise self._broken

    def _break(self, fault: ListingFault, message: str) -> None:
        self._broken = self._broken or BrokenListing(fault, message)

    def is_end(self, refusal: ErrorKind) -> bool:
        """Whether a refusal of `question` means that there is no such page."""
        return self._unsaid and refusal in (ErrorKind.not_found, ErrorKind.rejected)

    def _next(self, page: RecordPage) -> Query | None:
        if page.next_cursor is not None:
            return self._follow(page.next_cursor)
        if self._cursors or self._is_over(page):
            return None
        return self._page(self.number + 1)

    def _follow(self, cursor: str) -> Query | None:
        if cursor in self._cursors:
            self._break(
                ListingFault.repeated_cursor,
                f"after page {self.number} the list names a next page that it had named before",
            )
            return None
        self._cursors.add(cursor)
        return [*self._size, ("cursor", cursor)]

    def _is_over(self, page: RecordPage) -> bool:
        """Whether no page is to be asked for by its number any more."""
        if page.last_page is not None:
            # The last of several isn't empty, or the one before would be the last.
            in_vain = page.last_page > 1 and self._ends_empty(page, f" of {page.last_page}")
            return in_vain or self.number >= page.last_page
        if not page.records and page.has_more:
            return self._ends_empty(page, ", after which it says that another follows,")
        return self._is_last(page)

    def _ends_empty(self, page: RecordPage, which: str) -> bool:
        """Whether too many pages were empty at which the source says that there are records."""
        self._empty = 0 if page.records else self._empty + 1
        if self._empty:
            self._break(ListingFault.empty_page, f"page {self.number}{which} is empty")
        return self._empty >= MAX_EMPTY

    def _is_last(self, page: RecordPage) -> bool:
        """Whether an answer with neither cursor nor last page is the end; in doubt it is not."""
        by_cursor = self._style == "cursor"
        if len(page.records) < self._per_page:
            if not page.records or page.has_more is False or page.total == self._count:
                return True
            if page.has_more:
                return False
            says_more = page.total is not None and page.total > self._count
            self._unsaid = not says_more and not by_cursor
            self._doubted = says_more or self._unsaid
            return not self._doubted
        if page.has_more:
            return False
        if page.total is not None and page.total > self._count:
            return by_cursor and page.has_more is False  # a total may count what was filtered out
        return page.total == self._count or page.has_more is False or by_cursor

    def _page(self, number: int) -> Query:
        return [*self._size, ("page", str(number))]

    def _is_repeated(self, page: RecordPage) -> bool:
        if not page.records:
            return False
        fingerprint = hash(tuple([_identity(record) for record in page.records]))
        if fingerprint in self._seen:
            return True
        self._seen.add(fingerprint)
        return False

    def _hint(self, page: RecordPage) -> str:
        """What may be set, where the source seems not to know pages."""
        knows_pages = self._cursors or page.last_page is not None or self._style == "cursor"
        if knows_pages:
            return ""
        return "; if it gives everything at once, set the app's paging to cursor"


def _identity(record: Mapping[str, Any]) -> str:
    key = record.get("key")
    if type(key) is str and key:
        return key
    named = text(key) or text(record.get("id"))
    if named:
        return named
    try:
        return str(record)
    except RecursionError:  # nested as deep as JSON may be: no two of those are told apart
        return ""
