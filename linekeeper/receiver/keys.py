"""Who may ask: the key in `Authorization: Bearer`, and its scopes."""

from starlette.exceptions import HTTPException
from starlette.requests import Request

from linekeeper.access.keys import KeyHolder, find_holder, note_use
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime

_MAX_KEY = 200


async def require_key(request: Request, scope: str) -> KeyHolder:
    """The holder of the request's key, if it may do `scope`.

    Raises `HTTPException`: 401 without a key we know, 403 for one without the scope. Nothing else
    of the request has been looked at then.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return await require_key_text(request, key if scheme.lower() == "bearer" else "", scope)


async def require_key_text(request: Request, key: str, scope: str) -> KeyHolder:
    """The holder of `key`, if it may do `scope`; raises as `require_key` does."""
    key = key.strip()
    if not key or len(key) > _MAX_KEY:
        raise _unauthorized("send a key: Authorization: Bearer lk_… (made by `linekeeper key add`)")
    store = runtime_of(request).store
    async with store.read() as session:
        holder = await find_holder(session, key)
    if holder is None:
        raise _unauthorized("this key is unknown or revoked")
    if scope not in holder.scopes:
        raise HTTPException(403, f"this key lacks the scope {scope}")
    now = utcnow()
    if holder.is_use_news(now):
        async with store.write() as session:
            await note_use(session, holder, now=now)
    return holder


def runtime_of(request: Request) -> Runtime:
    """The runtime of the receiver that answers."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
