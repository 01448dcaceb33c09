"""What is asked, in order: the list first, then data with a connection's token, then webhooks.

A step is recorded as a whole or not at all, so a run that was interrupted begins with the first
step that is missing. Where Makini's answer says nothing about the account (it is away, it asks to
wait, the list is not allowed) the step is not recorded, and the next run asks again.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from linekeeper.config import AppConfig
from linekeeper.makini.fields import mapping
from linekeeper.makini.paging import MAX_PAGES, Pages, parse_page
from linekeeper.verify_account.ask import Asker, NotAllowed, RecordedReply, Unanswered
from linekeeper.verify_account.recording import Exchange

LIST = "/api/system/connections"
STATUS = "/api/integrations/current"
BIG_PAGE = 1000
MINT_CALLS = 5
"""As many calls as `mint_step` makes: the app's token, if need be, one to mint, three reads."""
FAR_AHEAD = "2199-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Sample:
    """A connection whose token may be used for reading."""

    who: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallStep:
    """One or a few calls that belong together."""

    name: str
    says: str
    run: Callable[[Asker], Awaitable[list[Exchange]]]


def list_steps(app: AppConfig) -> list[CallStep]:
    """What the app's own token shows; reads only."""

    async def token(ask: Asker) -> list[Exchange]:
        return [(await ask.admin_token("token")).exchange]

    async def client(ask: Asker) -> list[Exchange]:
        paths = ["/api/system/client", "/api/system/platforms"]
        return [_received(await ask.as_app("client", path)) for path in paths]

    async def small(ask: Asker) -> list[Exchange]:
        return [_listed(await ask.as_app("list/small", LIST, _page(n, 2))) for n in (1, 2)]

    async def cursor(ask: Asker) -> list[Exchange]:
        first = await ask.as_app("list/cursor", LIST, [("per_page", "2"), ("limit", "2")])
        following = mapping(first.body).get("next_cursor")
        if not isinstance(following, str) or not following:
            return [_listed(first)]
        query = [("per_page", "2"), ("limit", "2"), ("cursor", following)]
        return [_listed(first), _listed(await ask.as_app("list/cursor", LIST, query))]

    async def whole(ask: Asker) -> list[Exchange]:
        pages = Pages(app.paging, app.per_page)
        exchanges: list[Exchange] = []
        while (question := pages.question) is not None and len(exchanges) < MAX_PAGES:
            reply = await ask.as_app("list/whole", LIST, question)
            exchanges.append(_listed(reply))
            if reply.status >= 300:
                break
            try:
                pages.answered(parse_page(reply.body))
            except ValueError:  # not a list, or one that repeats itself: that is an answer too
                break
        return exchanges

    async def cap(ask: Asker) -> list[Exchange]:
        big = await ask.as_app("list/cap", LIST, _page(1, BIG_PAGE))
        if big.status >= 300:  # because of its size, or is the list away?
            _listed(await ask.as_app("list/cap", LIST, _page(1, 2)))
        return [big.exchange]

    async def refusals(ask: Asker) -> list[Exchange]:
        nobody = await ask.as_nobody("refusals", LIST)
        missing = await ask.as_app("refusals", "/api/system/linekeeper-no-such-route")
        return [_received(nobody), _received(missing)]

    return [
        CallStep("token", "the app's own token", token),
        CallStep("client", "the app and the platforms", client),
        CallStep("list/small", "two pages of two connections", small),
        CallStep("list/cursor", "the list by cursor", cursor),
        CallStep("list/whole", "the whole list", whole),
        CallStep("list/cap", "the largest page of the list", cap),
        CallStep("refusals", "what a refusal looks like", refusals),
    ]


def data_steps(app: AppConfig, samples: Sequence[Sample]) -> list[CallStep]:
    """What the token of each sample shows: its status, and the entities it can read."""
    steps = []
    for sample in samples:
        steps.append(_status_step(sample))
        steps += [_entity_step(app, sample, entity) for entity in app.entities]
    return steps


def _status_step(sample: Sample) -> CallStep:
    name = f"status/{sample.who}"

    async def run(ask: Asker) -> list[Exchange]:
        exchanges = []
        for path in (STATUS, "/api/integrations/sync/status"):
            exchanges.append(
                _received(await ask.as_connection(name, sample.who, sample.token, path))
            )
        return exchanges

    return CallStep(name, f"the status of {sample.who}", run)


def _entity_step(app: AppConfig, sample: Sample, entity: str) -> CallStep:
    name = f"data/{sample.who}/{entity}"
    path = f"/api/{quote(entity)}"

    async def run(ask: Asker) -> list[Exchange]:
        async def get(*query: tuple[str, str]) -> tuple[object, Exchange]:
            reply = await ask.as_connection(name, sample.who, sample.token, path, list(query))
            return reply.body, reply.exchange

        plain = await ask.as_connection(
            name, sample.who, sample.token, path, _page(1, app.per_page)
        )
        body, first = plain.body, _received(plain)
        if first.status >= 300 or not first.rows:
            return [first]
        exchanges = [first]
        key = mapping(_rows(body)[0]).get("key")
        after = middle_time(first)
        questions: list[list[tuple[str, str]]] = [
            _page(1, 2),
            _page(2, 2),
            _page(1, BIG_PAGE),
            [("filter[updatedAt:gteq]", after or FAR_AHEAD), *_page(1, app.per_page)],
            [("modified_after", after or FAR_AHEAD), *_page(1, app.per_page)],
            [("filter[updatedAt:gteq]", FAR_AHEAD), *_page(1, 2)],
            [("sort[key]", "0"), *_page(1, 3)],
            [("sort[key]", "1"), *_page(1, 3)],
        ]
        if isinstance(key, str) and key:
            questions.append([("filter[key]", key), *_page(1, 2)])
        for question in questions:
            exchanges.append((await get(*question))[1])
        if isinstance(key, str) and key not in {"", ".", ".."}:
            answer = await ask.as_connection(
                name,
                sample.who,
                sample.token,
                f"{path}/{quote(key, safe='')}",
                shown=f"{path}/{{key}}",
            )
            exchanges.append(answer.exchange)
        return exchanges

    return CallStep(name, f"{entity} of {sample.who}", run)


def mint_step(sample: Sample, ref: str) -> CallStep:
    """Mint one token for a connection, and see what became of the one it had."""

    async def run(ask: Asker) -> list[Exchange]:
        before = await ask.as_connection("mint", sample.who, sample.token, STATUS)
        _received(before)  # else nothing is minted
        path = f"{LIST}/{quote(ref, safe='')}/token"
        minted = await ask.as_app("mint", path, method="POST", shown=f"{LIST}/{{key}}/token")
        if minted.status == 429:
            raise Unanswered(minted.status)  # nothing was minted
        exchanges = [before.exchange, minted.exchange]
        top = mapping(minted.body)
        inner = mapping(top.get("data", top))
        token = inner.get("access_token") or inner.get("token")
        if minted.status >= 300 or not isinstance(token, str):
            return exchanges
        for which in (token, sample.token):
            exchanges.append((await ask.as_connection("mint", sample.who, which, STATUS)).exchange)
        return exchanges

    return CallStep("mint", f"minting one token for {sample.who}", run)


def _received(reply: RecordedReply) -> Exchange:
    """`reply` as it is recorded, unless Makini is away or asks to wait."""
    if reply.status == 429 or reply.status >= 500:
        raise Unanswered(reply.status)
    return reply.exchange


def _listed(reply: RecordedReply) -> Exchange:
    """The same of the list, which may also be not allowed to this client."""
    if reply.status in (401, 403):
        raise NotAllowed(reply.status)
    return _received(reply)


def middle_time(exchange: Exchange) -> str | None:
    """The middle one of the times of change on a page: a filter by it leaves some out."""
    times = sorted(
        str(row["updatedAt"]) for row in exchange.rows if isinstance(row.get("updatedAt"), str)
    )
    if not times or times[0] == times[-1]:
        return None
    middle = times[len(times) // 2]
    try:
        datetime.fromisoformat(middle)
    except ValueError:
        return None
    return middle


def _page(number: int, size: int) -> list[tuple[str, str]]:
    return [("per_page", str(size)), ("page", str(number))]


def _rows(body: object) -> list[object]:
    rows = body.get("data") if isinstance(body, dict) else body
    return rows if isinstance(rows, list) else [None]
