"""What the public contract of Makini leaves open, drawn anew for every universe."""

from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, TypeVar

from tests.simulation.machine import seed_of

T = TypeVar("T")
DAY = 86400.0
LIBERTY = 0.3
"""How often each of the rarer liberties is taken."""
LIBERTIES_FROM = 11_000
MORE_LIBERTIES_FROM = 12_000
LATEST_LIBERTIES_FROM = 13_000
NARROW_WINDOWS_FROM = 80_000
"""Universes before these live as they did when they broke, or found a planted defect."""


@dataclass(frozen=True)
class Personality:
    """One Makini, as good or as bad as its contract allows. Durations are seconds."""

    paging: str  # "page" or "cursor"
    page_cap: int
    since: str  # the incremental filter that works: "filter", "modified_after" or "none"
    signature: str  # "hex" or "base64"
    signature_prefix: bool
    webhook_id: str  # "header", "body" or "none"
    webhook_connection: str  # a path in the body, "url" (an endpoint for each) or "none"
    event_spelling: str  # "dot", "hyphen", "underscore" or "camel"
    auth_event: str  # what a lost login is announced as; empty: it isn't
    recovery_event: str
    mint: str  # "refused", "short" (five minutes) or "long"
    mint_kills: bool
    expires_in: str  # "absolute", "text" or "relative"
    keeps_id: bool
    renames_keys: bool
    status_lag: float
    grain: float  # what updatedAt is cut down to
    window: float | None  # how far back a listing reaches
    offline_reads: str  # "cached", "503" or "errors": 200 with no records and what is wrong
    per_minute: int
    retry_after: float
    error_style: str  # "code", "nested", "laravel" or "adapter"
    # From here on drawn by `with_liberties`, one by one.
    first_sync: float = 0.0  # how long it reads a new connection for the first time
    syncing_as: str = "Synchronizing"  # and what its list calls that
    soft_deletes: bool = False  # what is deleted stays listed, with its `deletedAt`
    delete_events: bool = False  # and a webhook says so
    source_times: bool = False  # what waited for a login or a system has the time it changed at
    undated: bool = False  # one entity has no times
    batched: bool = False  # one webhook names all records that changed together
    offline_as: str = "Active"  # what its list calls a connection whose system is off line
    lifecycle_case: str = "title"  # or "upper", or "snake"
    sync_events: bool = False  # each end of a synchronization is an event
    denial: str = ""  # how a customer comes back who denies their consent; empty: nobody does
    retry_after_as: str = "seconds"  # "seconds", "date" or "none"
    # From here on drawn by `with_more_liberties`.
    mint_refreshes: bool = False  # a minted token comes with one to refresh it by
    metadata_as: str = ""  # "text", "words", "object" or "array": how `user_metadata` reads
    magic_links: bool = False  # connections are listed as pending until somebody finishes them
    # From here on drawn by `with_latest_liberties`.
    says_pages: bool = True  # False: a page names neither a total nor the last page
    beyond_end: str = "empty"  # then a page after the last one is "empty", "again" or "refused"
    empty_first: bool = False  # with cursors: the first page is empty, and has the next cursor
    number_ids: bool = False  # the ids of deliveries and requests are numbers
    sync_lies: bool = False  # a synchronization "completes" whether its connection works or not
    new_events: bool = False  # events come whose names nobody knows
    forbids_list: bool = False  # the list of connections is forbidden (403) for an hour

    @classmethod
    def draw(cls, rng: Random) -> "Personality":
        """Draw every open question. The documented default is the likeliest answer."""

        def often(usual: str, *others: str) -> str:
            return usual if not others or rng.random() < 0.5 else rng.choice(others)

        keeps_id = rng.random() < 0.6
        return cls(
            paging=often("page", "cursor"),
            page_cap=rng.choice((7, 25, 100, 500)),
            since=often("filter", "modified_after", "none"),
            signature=rng.choice(("hex", "base64")),
            signature_prefix=rng.random() < 0.4,
            webhook_id=often("header", "body", "none"),
            webhook_connection=often(
                "connection_id", "url", "connectionId", "connection.id", "integration_id"
            ),
            event_spelling=rng.choice(("dot", "hyphen", "underscore", "camel")),
            auth_event=often("connection.auth_required", ""),
            recovery_event=often("connection.status_changed", ""),
            mint=often("short", "refused", "long"),
            mint_kills=rng.random() < 0.3,
            expires_in=rng.choice(("absolute", "text", "relative")),
            keeps_id=keeps_id,
            renames_keys=not keeps_id and rng.random() < 0.5,
            status_lag=rng.choice((0.0, 0.0, 60.0, 900.0, 3600.0, DAY)),
            grain=rng.choice((1e-6, 1e-3, 1.0, 60.0, DAY)),
            window=rng.choice((None, None, 90 * DAY, 30 * DAY)),
            offline_reads=rng.choice(("cached", "503")),
            per_minute=rng.choice((120, 600, 6000)),
            retry_after=rng.choice((1.0, 7.0, 60.0)),
            error_style=rng.choice(("code", "nested", "laravel", "adapter")),
        )

    @classmethod
    def of(cls, seed: int, given: dict[str, Any]) -> "Personality":
        """What the universe of this seed draws, but for what is given."""
        drawn = cls.draw(Random(seed_of(seed, "personality")))
        if seed >= LIBERTIES_FROM:
            drawn = drawn.with_liberties(Random(seed_of(seed, "liberties")))
        if seed >= MORE_LIBERTIES_FROM:
            drawn = drawn.with_more_liberties(Random(seed_of(seed, "more liberties")))
        if seed >= LATEST_LIBERTIES_FROM:
            drawn = drawn.with_latest_liberties(Random(seed_of(seed, "latest liberties")))
        narrow = Random(seed_of(seed, "narrow windows"))
        if seed >= NARROW_WINDOWS_FROM and narrow.random() < LIBERTY:
            drawn = replace(drawn, window=10 * DAY)  # records are up to twenty days old
        return replace(drawn, **given)

    def with_liberties(self, rng: Random) -> "Personality":
        """Take each of the contract's rarer liberties, or don't."""

        def seldom(liberty: T, usual: T) -> T:
            return liberty if rng.random() < LIBERTY else usual

        return replace(
            self,
            first_sync=seldom(rng.choice((600.0, 3600.0, 4 * 3600.0)), 0.0),
            syncing_as=rng.choice(("Synchronizing", "in_progress", "Active")),
            soft_deletes=seldom(True, False),
            delete_events=seldom(True, False),
            source_times=seldom(True, False),
            undated=seldom(True, False),
            batched=seldom(True, False),
            retry_after_as=seldom(rng.choice(("date", "none")), "seconds"),
            webhook_connection=seldom(rng.choice(("none", "connection")), self.webhook_connection),
            offline_as=seldom("Offline", "Active"),
            lifecycle_case=seldom(rng.choice(("upper", "snake")), "title"),
            sync_events=seldom(True, False),
            denial=seldom(rng.choice(("error", "bare")), ""),
        )

    def with_more_liberties(self, rng: Random) -> "Personality":
        """Take the liberties that came later, or don't."""
        shapes = ("text", "words", "object", "array")
        return replace(
            self,
            mint_refreshes=rng.random() < LIBERTY,
            metadata_as=rng.choice(shapes) if rng.random() < 2 * LIBERTY else "",
            magic_links=rng.random() < LIBERTY,
        )

    def with_latest_liberties(self, rng: Random) -> "Personality":
        """Take the liberties that came last, or don't."""

        def takes() -> bool:
            return rng.random() < LIBERTY

        names_no_end, lies = takes(), takes()
        capped = rng.choice((7, 25))
        return replace(
            self,
            says_pages=not names_no_end,
            page_cap=capped if names_no_end else self.page_cap,
            paging="page" if names_no_end else self.paging,
            beyond_end=rng.choice(("empty", "again", "refused")),
            empty_first=takes(),
            number_ids=takes(),
            sync_lies=lies,
            sync_events=self.sync_events or lies,
            new_events=takes(),
            forbids_list=takes(),
            offline_reads="errors" if takes() else self.offline_reads,
        )

    def words(self) -> str:
        """The personality in one line, for a trace."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())
