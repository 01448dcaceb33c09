"""The body of a request to a page or to the product's API, within bounds."""

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes. Raises `HTTPException` 413 for a longer one."""
    body = b""
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise HTTPException(413, f"the body is longer than {limit} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "client disconnected while sending the body") from None
    return body
