"""`/paste`: where an operator stores a code or a token pair, behind a product key.

Codes and tokens never go into a Prefect form: what is typed there stays in Prefect's database.
"""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper.access.ending import Ended
from linekeeper.access.paste import Unusable, paste, understood
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.makini import ReadOnlyApp
from linekeeper.receiver.gate import read_body
from linekeeper.receiver.html import fields, page, rendered
from linekeeper.receiver.keys import require_key_text, runtime_of
from linekeeper.runtime import UnknownApp

_MAX_FORM = 32_768
_STATUS: dict[Ended, int] = {"done": 200, "other_system": 409}
_TITLES: dict[Ended, str] = {
    "done": "Stored",
    "unproven": "Stored, not verified yet",
    "checking": "Checking the login",
}


async def show(_: Request) -> Response:
    """The form; nothing of ours is shown to who opens it."""
    return _form(200)


async def take(request: Request) -> Response:
    """Store what was pasted. 401 without a key with the scope `connect:write`.

    The page comes within ten seconds: what Makini has not answered by then goes on without it.
    """
    form = fields(await read_body(request, _MAX_FORM))
    try:
        holder = await require_key_text(request, form.get("key", ""), "connect:write")
    except HTTPException as refused:
        return _form(refused.status_code, problem=f"The key: {refused.detail}.")
    connection, who = form.get("connection", "").strip(), form.get("by", "").strip()
    if not connection or not who:
        return _form(422, problem="Give the connection and your name.", connection=connection)
    try:
        given = understood(form.get("login", ""), now=utcnow())
        pasted = await paste(
            runtime_of(request),
            connection,
            given,
            by=f"{who} ({holder.by})",
            now=utcnow(),
            patiently=False,
        )
    except (Unusable, NotFound, ReadOnlyApp, UnknownApp) as problem:
        return _form(422, problem=f"{problem}.", connection=connection, who=who)
    kept = "Kept, not verified yet" if pasted.ending.is_kept else "Not stored"
    title = _TITLES.get(pasted.ending.how, kept)
    status = _STATUS.get(pasted.ending.how, 502)
    return page(title, f"{pasted.sentence[:1].upper()}{pasted.sentence[1:]}.", status=status)


def _form(status: int, *, problem: str = "", connection: str = "", who: str = "") -> Response:
    return rendered(
        "paste.html",
        status,
        title="Store a login",
        problem=problem,
        connection=connection,
        who=who,
    )


ROUTES = [
    Route("/paste", show, methods=["GET"]),
    Route("/paste", take, methods=["POST"]),
]
