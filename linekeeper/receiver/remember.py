"""A cookie that carries the `state` for a Makini that doesn't give it back.

One for each link, so that a browser with two links open is distinguished from one with a single
link.
"""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from linekeeper.access.links import STATE_LIVES, redirect_uri

_PREFIX = "linekeeper-state-"


def remember(response: Response, link_id: str, state: str, public_url: str) -> None:
    """Have the browser keep `state` until it comes back, half an hour at most."""
    _set(response, f"{_PREFIX}{link_id}", state, int(STATE_LIVES.total_seconds()), public_url)


def remembered(request: Request) -> list[str]:
    """The states that the browser kept."""
    return [value for name, value in request.cookies.items() if name.startswith(_PREFIX)]


def forget(request: Request, response: Response, public_url: str) -> None:
    """Have the browser drop them: each is good for one callback."""
    for name in request.cookies:
        if name.startswith(_PREFIX):
            _set(response, name, "", 0, public_url)


def _set(response: Response, name: str, value: str, seconds: int, public_url: str) -> None:
    target = urlsplit(redirect_uri(public_url))
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=target.path,
        secure=target.scheme == "https",
        httponly=True,
        samesite="lax",
    )
