"""Pages for customers: plain, accessible, without script. Everything put into them is escaped."""

from typing import Any
from urllib.parse import parse_qs

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("linekeeper.receiver", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_LONGEST_LOCALE = 35
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}


def page(
    title: str,
    *lines: str,
    status: int = 200,
    url: str | None = None,
    label: str = "",
    language: str = "en",
) -> Response:
    """A few sentences, and perhaps one link."""
    values = {"title": title, "lines": lines, "url": url, "label": label}
    return rendered("page.html", status, language=language, **values)


def rendered(template: str, status: int = 200, *, language: str = "en", **values: Any) -> Response:
    content = _ENVIRONMENT.get_template(template).render(language=language, **values)
    return HTMLResponse(content, status, _HEADERS)


def asked_locale(request: Request) -> str:
    """The language that the browser asks for first; it says so of somebody we don't know."""
    first = request.headers.get("accept-language", "").split(",", 1)[0]
    return first.split(";", 1)[0][:_LONGEST_LOCALE]


def fields(body: bytes) -> dict[str, str]:
    """The first value of each field, without zero bytes, which PostgreSQL takes in no text; empty
    for a body that is no form."""
    try:
        parsed = parse_qs(body.decode("utf-8"), max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0].replace("\0", "") for name, values in parsed.items()}
