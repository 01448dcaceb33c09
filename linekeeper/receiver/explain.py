"""`GET /api/explain?subject=…`: the way of a record, delivery, change, incident or message."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.explain.service import MOST_CHARACTERS, explain
from linekeeper.receiver.keys import require_key, runtime_of


async def show(request: Request) -> Response:
    """Every hop with its evidence, and the missing one; 404 where nothing is known by that name."""
    await require_key(request, "explain:read")
    subject = request.query_params.get("subject", "").replace("\0", " ").strip()
    if not subject or len(subject) > MOST_CHARACTERS:
        raise HTTPException(
            422, f"give ?subject=Customer · System RECORD-KEY, at most {MOST_CHARACTERS} characters"
        )
    rt = runtime_of(request)
    try:
        explanation = await explain(rt.store, await rt.configuration(), subject, now=utcnow())
    except NotFound as error:
        raise HTTPException(404, str(error)) from None
    return Response(
        explanation.answer().encoded(),
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


ROUTES = [Route("/api/explain", show, methods=["GET"])]
