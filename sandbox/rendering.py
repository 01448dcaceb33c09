"""HTML pages from the templates beside this module."""

from __future__ import annotations

from typing import Any

import jinja2
from starlette.responses import HTMLResponse, Response

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("sandbox", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, status: int = 200, **values: Any) -> Response:
    """The template as an answer; everything in `values` is escaped."""
    return HTMLResponse(
        _ENVIRONMENT.get_template(template).render(values),
        status,
        {"Cache-Control": "no-store"},
    )
