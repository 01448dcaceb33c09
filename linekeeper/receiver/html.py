"""Pages for customers: plain, accessible, without script. Everything put into them is escaped."""

from typing import Any
from urllib.parse import parse_qs

import jinja2
from starlette.responses import HTMLResponse, Response

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("linekeeper.receiver", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}


def page(
    title: str, *lines: str, status: int = 200, url: str | None = None, label: str = ""
) -> Response:
    """A few sentences, and perhaps one link."""
    return rendered("page.html", status, title=title, lines=lines, url=url, label=label)


def rendered(template: str, status: int = 200, **values: Any) -> Response:
    content = _ENVIRONMENT.get_template(template).render(values)
    return HTMLResponse(content, status, _HEADERS)


def fields(body: bytes) -> dict[str, str]:
    """The first value of each field, without zero bytes, which PostgreSQL takes in no text; empty
    for a body that is no form."""
    try:
        parsed = parse_qs(body.decode("utf-8"), max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0].replace("\0", "") for name, values in parsed.items()}
