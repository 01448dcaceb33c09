"""`GET /oauth/callback`: the customer comes back from Makini Link; always a page."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper.access.callback import finish
from linekeeper.access.ending import Ended, Ending
from linekeeper.clock import utcnow
from linekeeper.receiver.connect import since_used
from linekeeper.receiver.html import page
from linekeeper.receiver.keys import runtime_of
from linekeeper.receiver.remember import forget, remembered

_LONGEST = 4_096


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
    if ending.used_link:
        lines = await since_used(rt, ending.used_link)
        response = page(_WORDS["used"].title, *lines, status=_WORDS["used"].status)
    else:
        response = _page(ending)
    forget(request, response, rt.settings.resolved_public_url)
    return response


@dataclass(frozen=True, slots=True)
class _Words:
    """A page's title, text and status; `{system}` and `{came}` are filled in."""

    title: str
    text: str
    status: int
    again: str = ""
    """What follows where the link still works."""


_EXPIRED = (
    "Your link has expired meanwhile: to try again, ask whoever sent you the link for a new one."
)


_NOT_OURS = _Words(
    "This did not begin here",
    "Please start from the link you were sent; without it we can't tell which system this login is "
    "for. Nothing was changed.",
    400,
)
_NO_STATE = _Words(
    _NOT_OURS.title,
    "Please open the link you were sent again, and go on from there in the same browser. It has to "
    "accept cookies, and to have no other such link open: without that we can't tell which system "
    "this login is for. Nothing was changed.",
    400,
)
"""Makini gave no `state` back, and the browser had none, or those of several links."""
_AGAIN = _Words(
    "Done, thank you",
    "{system} is connected again and the new login works. What changed meanwhile is being fetched "
    "now. You can close this page.",
    200,
)
_WORDS: dict[Ended, _Words] = {
    "done": _Words(
        "Done, thank you",
        "{system} is connected and the new login works. There is nothing more to do. You can close "
        "this page.",
        200,
    ),
    "no_state": _NO_STATE,
    "forged": _NOT_OURS,
    "too_late": _Words(
        "That took a little too long",
        "For safety a login has to be finished within 30 minutes. Nothing was changed.",
        400,
    ),
    "too_often": _Words(
        "Please wait a little",
        "Several logins were tried with this link within the last hour. Nothing was changed.",
        429,
        "Your link still works: please try again in an hour.",
    ),
    "used": _Words(
        "This page was used already",
        "If you saw that it worked, there is nothing more to do.",
        400,
    ),
    "ended": _Words(
        "This connection was ended",
        "{system} is not connected to us any more, so no login is needed. Nothing was changed.",
        400,
    ),
    "observed": _Words(
        "This link is not in use any more",
        "Nothing was changed. Ask whoever sent you the link whether a login is needed.",
        400,
    ),
    "denied": _Words(
        "You did not log in",
        "Nothing was changed: {system} is as it was before.",
        400,
        "Your link still works.",
    ),
    "other_system": _Words(
        "That was another system",
        "You logged in to {came}, but {system} is the one that was asked for.",
        409,
        "Please try again and choose that one.",
    ),
    "unproven": _Words(
        "The login is not verified yet",
        "Your login is kept, but Makini still says that {system} does not accept it. That may be "
        "left from before: we look again within minutes, and if it works there is nothing more to "
        "do.",
        502,
        "Your link still works: if you typed an old password, please try again.",
    ),
    "refused": _Words(
        "The login was not accepted",
        "Makini did not accept this login for {system}.",
        502,
        "Your link still works: please try again, with the user name and password the system has "
        "now.",
    ),
    "system_away": _Words(
        "{system} does not answer",
        "Makini accepted your login, but {system} does not answer Makini at the moment. It may be "
        "switched off, or not reachable from outside your network.",
        502,
        "Your link still works: please try again once {system} is available.",
    ),
    "away": _Words(
        "Makini is not available",
        "Your login could not be finished, which is not your fault.",
        502,
        "Your link still works: please try again in a few minutes.",
    ),
    "unlisted": _Words(
        "Your login is kept",
        "Makini accepted your login, and does not show yet which connection it belongs to. We "
        "look again within minutes, and if it works there is nothing more to do.",
        502,
        "Your link still works.",
    ),
    "checking": _Words(
        "We are checking your login",
        "We have no answer from Makini yet, and go on waiting: if it accepts your login there is "
        "nothing more to do. You can close this page.",
        502,
        "Your link shows in a few minutes how it went, and still works if it did not.",
    ),
}

_OTHER_MAIL = _Words(
    "That was another login",
    "You logged in to {came} with {mail}. The one that was asked for was made with {before}. If "
    "nobody has that e-mail address any more, tell whoever sent you the link: trying again with "
    "this one changes nothing.",
    409,
    "Please try again with that e-mail address.",
)
_KEPT: dict[Ended, _Words] = {
    "checking": _Words(
        "We are checking your login",
        "Makini accepted your login, and has not said yet that {system} does. Your login is kept "
        "and we go on asking: if it works there is nothing more to do. You can close this page.",
        502,
        "Your link shows in a few minutes how it went.",
    ),
    "used": _Words(
        "The login is not verified yet",
        "Your login is kept: it is verified as soon as {system} answers Makini, and if it works "
        "there is nothing more to do.",
        400,
        "Your link still works.",
    ),
    "too_often": _Words(
        "Please wait a little",
        "Several logins were tried with this link within the last hour. The last one that Makini "
        "accepted is kept: it is verified without your help, and if it works there is nothing "
        "more to do.",
        429,
        "Your link still works: you can try again in an hour.",
    ),
    "system_away": _Words(
        "{system} does not answer",
        "Makini accepted your login, but {system} does not answer Makini at the moment. It may be "
        "switched off, or not reachable from outside your network. Your login is kept: we verify "
        "it as soon as {system} is available, and if it works there is nothing more to do.",
        502,
        "Your link still works.",
    ),
    "away": _Words(
        "Makini is not available",
        "Makini accepted your login, but could not be asked about it, which is not your fault. "
        "Your login is kept: we ask again within minutes, and if it works there is nothing more "
        "to do.",
        502,
        "Your link still works.",
    ),
}
"""Where the login is kept and still to be verified."""


def _page(ending: Ending) -> Response:
    words = _WORDS[ending.how]
    if ending.how == "done" and ending.was_lost:
        words = _AGAIN
    elif ending.is_kept:
        words = _KEPT.get(ending.how, words)
    elif ending.how == "other_system" and ending.mail_before:
        words = _OTHER_MAIL
    named = {"system": ending.system or "your system", "came": ending.came}
    named |= {"mail": ending.mail or "no e-mail address", "before": _hinted(ending.mail_before)}
    follows = _EXPIRED if ending.has_expired else words.again
    title, text = words.title.format(**named), f"{words.text} {follows}".strip().format(**named)
    if not ending.system:
        title, text = title[:1].upper() + title[1:], text[:1].upper() + text[1:]
    label = "See how it went" if ending.how == "checking" else "Try again"
    return page(title, text, status=words.status, url=ending.connect_url, label=label)


def _hinted(mail: str) -> str:
    """An address that its owner recognises, and that reveals to nobody else what it is."""
    name, at, domain = mail.rpartition("@")
    return f"{name[:1]}…{at}{domain}" if at else "another e-mail address"


ROUTES = [Route("/oauth/callback", come_back, methods=["GET"])]
