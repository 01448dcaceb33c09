"""`GET /oauth/callback`: the customer comes back from Makini Link; always a page."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper.access.callback import finish
from linekeeper.access.ending import Ended, Ending
from linekeeper.clock import utcnow
from linekeeper.customer_page.words import Words, words_of
from linekeeper.receiver.connect import since_used
from linekeeper.receiver.html import asked_locale, page
from linekeeper.receiver.keys import runtime_of
from linekeeper.receiver.remember import forget, remembered
from linekeeper.store.tables import Customer

_LONGEST = 4_096
_STATUS: Mapping[Ended, int] = {
    "done": 200,
    "no_state": 400,
    "forged": 400,
    "too_late": 400,
    "used": 400,
    "ended": 400,
    "observed": 400,
    "denied": 400,
    "other_system": 409,
    "too_often": 429,
    "unproven": 502,
    "refused": 502,
    "system_away": 502,
    "away": 502,
    "unlisted": 502,
    "checking": 502,
}
_SAID_OF_KEPT = frozenset({"checking", "used", "too_often", "system_away", "away"})
"""What has words of its own where the login is kept and still to be verified."""


async def come_back(request: Request) -> Response:
    """Exchange the code and show the customer how it went; a mere look (HEAD) changes nothing."""
    if request.method == "HEAD":
        return Response()
    query = request.query_params
    code, state = query.get("code"), query.get("state")
    rt = runtime_of(request)
    ending = await finish(
        rt,
        code=code if code and len(code) <= _LONGEST else None,
        state=state,
        remembered=remembered(request),
        denied="error" in query,
        now=utcnow(),
    )
    customer = None
    if ending.customer_id is not None:
        async with rt.store.read() as session:
            customer = await session.get(Customer, ending.customer_id)
    words = words_of(customer.locale if customer is not None else asked_locale(request))
    if ending.used_link:
        title, lines = words.say("returned_used", "title"), await since_used(rt, ending.used_link)
        response = page(title, *lines, status=_STATUS["used"], language=words.language)
    else:
        response = _page(ending, words)
    forget(request, response, rt.settings.resolved_public_url)
    return response


def _page(ending: Ending, words: Words) -> Response:
    named = {
        "came": ending.came,
        "mail": ending.mail or words.say("returned", "no_mail"),
        "before": _hinted(ending.mail_before) or words.say("returned", "other_mail"),
    }
    part = _part(ending)
    follows = ("returned", "expired") if ending.has_expired else (part, "again")
    title, text, next_step = (
        words.of_system(*each, ending.system, **named)
        for each in ((part, "title"), (part, "text"), follows)
    )
    label = words.say("returned", "see" if ending.how == "checking" else "again")
    return page(
        title,
        f"{text} {next_step}".strip(),
        status=_STATUS[ending.how],
        url=ending.connect_url,
        label=label,
        language=words.language,
    )


def _part(ending: Ending) -> str:
    """Where the words for it are."""
    if ending.how == "done" and ending.was_lost:
        return "returned_done_again"
    if ending.is_kept and ending.how in _SAID_OF_KEPT:
        return f"returned_kept_{ending.how}"
    if ending.how == "other_system" and not ending.is_theirs:
        return "returned_not_theirs"
    if ending.how == "other_system" and ending.mail_before and not ending.is_kept:
        return "returned_other_mail"
    return f"returned_{ending.how}"


def _hinted(mail: str) -> str:
    """An address that its owner recognises, and that reveals to nobody else what it is."""
    name, at, domain = mail.rpartition("@")
    return f"{name[:1]}…{at}{domain}" if at else ""


ROUTES = [Route("/oauth/callback", come_back, methods=["GET"])]
