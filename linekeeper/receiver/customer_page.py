"""`GET /customer/{token}` and `.json`: what one customer is asked, and how their systems are.

The signed address is all that is needed; whoever has it sees this customer's page and no other.
"""

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from linekeeper.access.page_links import (
    is_opening_news,
    note_opening,
    read_token,
    working_link,
)
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow, zone_of
from linekeeper.customer_page.service import read_page, take_answer
from linekeeper.customer_page.words import words_of
from linekeeper.preflight.network import usable_network
from linekeeper.receiver.gate import read_body
from linekeeper.receiver.html import asked_locale, fields, rendered
from linekeeper.receiver.html import page as plain_page
from linekeeper.receiver.keys import runtime_of
from linekeeper.store.tables import Customer, CustomerLink

_MAX_FORM = 32_768
_JSON = ".json"
_Opened = tuple[CustomerLink, Customer]


async def show(request: Request) -> Response:
    """The page, or the same as JSON; 404 for a link that is not whole or was withdrawn."""
    token = request.path_params["token"]
    as_json = token.endswith(_JSON)
    opened = await _find(request, token.removesuffix(_JSON))
    if opened is None:
        return _gone(request, as_json=as_json)
    link, _ = opened
    now = utcnow()
    if not as_json and is_opening_news(link, now):
        async with runtime_of(request).store.write() as session:
            await note_opening(session, link.id, now=now)
    return await _page(request, opened, as_json=as_json)


async def take(request: Request) -> Response:
    """Take a tick or a comment, then show the page again (a reload sends nothing twice)."""
    opened = await _find(request, request.path_params["token"])
    if opened is None:
        return _gone(request, as_json=False)
    link, customer = opened
    form = fields(await read_body(request, _MAX_FORM))
    rt = runtime_of(request)
    outcome = await take_answer(
        rt.store,
        link,
        customer,
        step=form.get("step", ""),
        ticked=form.get("done") == "yes",
        comment=form.get("comment", ""),
        now=utcnow(),
    )
    if outcome == "saved":
        return RedirectResponse("?saved=1", 303)  # whatever address the page was opened by
    words = words_of(customer.locale)
    return await _page(request, opened, notice=words.say("refused", outcome), status=422)


async def _page(
    request: Request, opened: _Opened, *, as_json: bool = False, notice: str = "", status: int = 200
) -> Response:
    rt, (_, customer), now = runtime_of(request), opened, utcnow()
    signer, public_url = await load_signer(rt.store), rt.settings.resolved_public_url
    network = usable_network(rt.settings.network_file)
    async with rt.store.read() as session:
        page, words = await read_page(session, customer, signer, public_url, network, now=now)
    if as_json:
        return Response(
            orjson.dumps(page.model_dump(mode="json")),
            media_type="application/json",
            headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
        )
    if not notice and request.query_params.get("saved") == "1":
        notice = words.say("page", "saved")
    zone = zone_of(customer.time_zone)
    return rendered(
        "customer.html",
        status,
        title=words.say("page", "title", customer=customer.name),
        page=page,
        words=words,
        notice=notice,
        as_of=words.say("page", "times", when=words.moment(now.astimezone(zone))),
        zone=customer.time_zone,
    )


async def _find(request: Request, token: str) -> _Opened | None:
    store = runtime_of(request).store
    link_id = read_token(await load_signer(store), token)
    if link_id is None:
        return None
    async with store.read() as session:
        return await working_link(session, link_id)


def _gone(request: Request, *, as_json: bool) -> Response:
    if as_json:
        return Response(b'{"error":"gone"}', 404, media_type="application/json")
    words = words_of(asked_locale(request))
    title, text = words.say("refused", "gone_title"), words.say("refused", "gone")
    return plain_page(title, text, status=404, language=words.language)


ROUTES = [
    Route("/customer/{token}", show, methods=["GET"]),
    Route("/customer/{token}", take, methods=["POST"]),
]
