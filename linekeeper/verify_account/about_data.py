"""What a recording says of statuses, records, minted tokens and webhooks. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from linekeeper.inbox.meaning import EventNames, rank_of
from linekeeper.makini.fields import instant
from linekeeper.makini.models import normalise_sync_status
from linekeeper.text import counted
from linekeeper.verify_account.about_list import grain, page_cap
from linekeeper.verify_account.question import (
    Assumption,
    AssumptionFinding,
    decided,
    not_seen,
    otherwise,
    so,
)
from linekeeper.verify_account.recording import Exchange, of

_NEEDS_DATA = "needs the token of a connection: run it with --data"
_NEEDS_WRITING = "needs --write-on and --confirm with the key of one connection"
_SYNC_WORDS = {"inprogress", "done", "fulldone", "error", "fail"}
_NAMES = EventNames((), {})
_EVENTS = ("inserted", "updated", "created", "deleted")


def _sync_status(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    statuses = [e for e in of(exchanges, "status/") if e.path.endswith("/current")]
    if not statuses:
        return not_seen(_NEEDS_DATA)
    answered = [exchange.inner for exchange in statuses if exchange.status < 300]
    words = Counter(str(inner.get("sync_status", "(missing)")) for inner in answered)
    said = ", ".join(f"{word}: {count}" for word, count in words.items())
    refused = ", ".join(str(exchange.status) for exchange in statuses if exchange.status >= 300)
    if not answered:
        return otherwise(f"the status was refused: {refused}")
    known = all(normalise_sync_status(word) in _SYNC_WORDS for word in words)
    return decided(known, said + (f"; refused: {refused}" if refused else ""))


def _entities(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    firsts = _firsts(exchanges)
    if not firsts:
        return not_seen(_NEEDS_DATA)
    statuses: defaultdict[str, list[int]] = defaultdict(list)
    for exchange in firsts:
        statuses[_entity(exchange)].append(exchange.status)
    offered = [entity for entity, seen in statuses.items() if any(status < 300 for status in seen)]
    said = "; ".join(
        f"{entity}: {', '.join(map(str, sorted(set(seen))))}" for entity, seen in statuses.items()
    )
    settings = {"MAKINI_ENTITIES": ",".join(offered)} if offered else {}
    return decided(len(offered) == len(statuses), said, **settings)


def _record_key(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    keys = [row.get("key") for exchange in _firsts(exchanges) for row in exchange.rows]
    if not keys:
        return not_seen(_NEEDS_DATA if not _firsts(exchanges) else "no record was seen")
    others = sum(not isinstance(key, str) for key in keys)
    zeros = sum(isinstance(key, str) and key.endswith(":digits0") for key in keys)
    return decided(not others, f"{len(keys)} keys, {others} are no text, {zeros} begin with a zero")


def _record_times(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    rows = [row for exchange in _firsts(exchanges) for row in exchange.rows]
    if not rows:
        return not_seen(_NEEDS_DATA if not _firsts(exchanges) else "no record was seen")
    without = {_entity(e) for e in _firsts(exchanges) if e.rows and "updatedAt" not in e.rows[0]}
    grain_of_times = grain(
        [row["updatedAt"] for row in rows if isinstance(row.get("updatedAt"), str)]
    )
    if without:
        return otherwise(f"no updatedAt in {', '.join(sorted(without))}; {grain_of_times.evidence}")
    return grain_of_times


def _since(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    verdicts = [
        (_changed_since(exchanges, "filter[updatedAt:gteq]"), "filter"),
        (_changed_since(exchanges, "modified_after"), "modified_after"),
    ]
    (by_filter, filter_says), (by_after, after_says) = verdicts[0][0], verdicts[1][0]
    said = f"filter[updatedAt:gteq]: {filter_says}; modified_after: {after_says}"
    if by_filter is None and by_after is None:
        return not_seen(_NEEDS_DATA if not _firsts(exchanges) else said)
    if by_filter:
        return so(said, MAKINI_SINCE="filter")
    if by_after:
        return otherwise(said, MAKINI_SINCE="modified_after")
    return otherwise(f"{said}; everything is listed and compared here")


def _changed_since(exchanges: Sequence[Exchange], parameter: str) -> tuple[bool | None, str]:
    """Whether `parameter` left out exactly what is older; None where nothing could show it."""
    answers = [
        exchange
        for exchange in _data(exchanges)
        if parameter in exchange.query and not exchange.query[parameter].startswith("2199-")
    ]
    if not answers:
        return None, "not asked"
    for exchange in answers:
        if exchange.status >= 300:
            return False, f"refused with {exchange.status} for {_entity(exchange)}"
        times = [row["updatedAt"] for row in exchange.rows if isinstance(row.get("updatedAt"), str)]
        if any(_moment(time) < _moment(exchange.query[parameter]) for time in times):
            return False, f"ignored for {_entity(exchange)}: older records came"
    return True, f"obeyed in {len(answers)} listings"


def _sort(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    ordered: defaultdict[str, dict[str, Exchange]] = defaultdict(dict)
    for exchange in _data(exchanges):
        if "sort[key]" in exchange.query:
            ordered[exchange.step][exchange.query["sort[key]"]] = exchange
    pairs = [(both["0"], both["1"]) for both in ordered.values() if len(both) == 2]
    if not pairs:
        return not_seen(_NEEDS_DATA)
    refused = [exchange.status for pair in pairs for exchange in pair if exchange.status >= 300]
    if refused:
        return otherwise(f"refused with {refused[0]}")
    comparable = [(up, down) for up, down in pairs if len(up.rows) > 1]
    if not comparable:
        return not_seen("there are too few records to tell")
    same = sum(_keys(up) == _keys(down) for up, down in comparable)
    return decided(
        not same, f"both orders gave the same page in {same} of {len(comparable)} listings"
    )


def _key_filter(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    answers = [exchange for exchange in _data(exchanges) if "filter[key]" in exchange.query]
    if not answers:
        return not_seen(_NEEDS_DATA)
    good = sum(
        exchange.status < 300 and _keys(exchange) == [exchange.query["filter[key]"]]
        for exchange in answers
    )
    return decided(good == len(answers), f"exactly that one came in {good} of {len(answers)}")


def _one_record(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    answers = [exchange for exchange in _data(exchanges) if exchange.path.endswith("/{key}")]
    if not answers:
        return not_seen(_NEEDS_DATA)
    statuses = Counter(exchange.status for exchange in answers)
    said = ", ".join(f"{status}: {count}" for status, count in statuses.items())
    return decided(set(statuses) == {200}, said)


def _record_cap(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    big = [exchange for exchange in _data(exchanges) if exchange.query.get("per_page") == "1000"]
    if not big:
        return not_seen(_NEEDS_DATA)
    return page_cap(max(big, key=lambda exchange: len(exchange.rows)), 0)


def _mint_lifetime(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    answers = [exchange for exchange in of(exchanges, "mint") if exchange.method == "POST"]
    if not answers:
        return not_seen(_NEEDS_WRITING)
    if answers[0].status >= 300:
        return otherwise(f"minting is refused with {answers[0].status}")
    value = answers[0].inner.get("expires_in")
    return decided(value in (300, "300"), f"expires_in is {value}")


def _mint_keeps(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    calls = of(exchanges, "mint")
    if len(calls) < 4:
        return not_seen(_NEEDS_WRITING if not calls else "no token was minted")
    before, _, with_new, with_old = calls[:4]
    if before.status >= 300:
        return not_seen(f"the token it had was refused before already: {before.status}")
    return decided(
        with_old.status < 300,
        f"the minted token: {with_new.status}; the one before it: {with_old.status}",
    )


def _login_keeps(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    logins = of(exchanges, "logins")
    if not logins or not isinstance(logins[-1].body, dict):
        return not_seen("no login of a known connection was seen yet: run it again after one")
    kept, replaced = logins[-1].body.get("kept", 0), logins[-1].body.get("replaced", 0)
    if not kept and not replaced:
        return not_seen("no login of a known connection was seen yet: run it again after one")
    return decided(
        not replaced, f"{counted(kept, 'login')} kept the connection, {replaced} made a new one"
    )


def _is_record_event(exchange: Exchange) -> bool:
    """A webhook that by its name is about a connection or a system says nothing of records."""
    if exchange.method != "WEBHOOK" or not exchange.note:
        return False
    return rank_of(_NAMES.meaning(exchange.note).kind) > 0


def _event_names(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    names = Counter(e.note for e in exchanges if _is_record_event(e))
    if not names:
        return not_seen("no webhook about records came yet: run it again after the first ones")
    said = ", ".join(f"{name}: {count}" for name, count in names.most_common(20))
    return decided(
        all(name.rpartition(".")[2].lower() in _EVENTS for name in names), f"seen: {said}"
    )


def _event_connection(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    bodies = [e.body for e in exchanges if _is_record_event(e) and isinstance(e.body, dict)]
    if not bodies:
        return not_seen("no webhook about records came yet: run it again after the first ones")
    names = {"connection_id", "connectionId", "connection", "integration_id"}
    naming = sum(bool(names & body.keys()) for body in bodies)
    said = f"{naming} of {len(bodies)} kept samples name their connection"
    return decided(naming == 0, said)


def _signature(exchanges: Sequence[Exchange]) -> AssumptionFinding:
    tallies = of(exchanges, "signatures")
    if not tallies or not isinstance(tallies[-1].body, dict):
        return not_seen("no webhook came yet: run it again after the first ones")
    accepted, refused = tallies[-1].body.get("accepted", 0), tallies[-1].body.get("refused", 0)
    if not accepted and not refused:
        return not_seen("no webhook came yet: run it again after the first ones")
    said = f"{accepted} accepted, {refused} refused for their signature"
    return decided(accepted > 0, said)


def _data(exchanges: Sequence[Exchange]) -> list[Exchange]:
    return of(exchanges, "data/")


def _firsts(exchanges: Sequence[Exchange]) -> list[Exchange]:
    """The first exchange of each entity of each connection: a plain first page."""
    firsts: dict[str, Exchange] = {}
    for exchange in _data(exchanges):
        firsts.setdefault(exchange.step, exchange)
    return list(firsts.values())


def _entity(exchange: Exchange) -> str:
    return exchange.path.removeprefix("/api/")


def _keys(exchange: Exchange) -> list[str]:
    return [str(row.get("key")) for row in exchange.rows]


def _moment(time: str) -> float:
    moment = instant(time)
    return moment.timestamp() if moment is not None else 0.0


QUESTIONS = (
    Assumption("sync-status", "sync_status is one of the documented words", _sync_status),
    Assumption("entities", "the configured entities are offered", _entities),
    Assumption("record-key", "a record's key is text", _record_key),
    Assumption("record-times", "records have updatedAt, in UTC", _record_times),
    Assumption("changed-since", "filter[updatedAt:gteq] gives what changed since", _since),
    Assumption("sort", "sort[key] orders, 1 descending and 0 ascending", _sort),
    Assumption("filter-key", "filter[key] gives exactly that record", _key_filter),
    Assumption("one-record", "a record can be read by its key", _one_record),
    Assumption("record-page-cap", "a page holds at most 100 to 500 records", _record_cap),
    Assumption("event-names", "record events are named <entity>.<inserted|updated>", _event_names),
    Assumption("event-connection", "record events do not name their connection", _event_connection),
    Assumption("signature", "webhooks are signed as configured", _signature),
    Assumption("mint-lifetime", "a minted token lives five minutes", _mint_lifetime),
    Assumption("mint-keeps", "minting leaves other tokens alive", _mint_keeps),
    Assumption("login-keeps", "a login keeps the connection and its keys", _login_keeps),
)
