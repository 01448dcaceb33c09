"""`/api/…`: what the operator's product asks and reports (INTERFACE "Over HTTP")."""

from datetime import datetime

import orjson
from sqlmodel import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from linekeeper.access.custody import BadTokens, HandedResult, parse_handed, take_over
from linekeeper.access.issue import (
    IssuedToken,
    NoSuchConnection,
    find_by_id_or_key,
    issue_access_token,
)
from linekeeper.access.token_check import ASKED_FOR_SECONDS
from linekeeper.answers import Answer, UtcTime
from linekeeper.clock import as_utc, utcnow
from linekeeper.config import AppConfig
from linekeeper.incidents.of_connection import incident_of
from linekeeper.makini import MakiniError
from linekeeper.receiver.connection_route import ConnectionRoute
from linekeeper.receiver.follow_ups import FollowUps
from linekeeper.receiver.gate import read_body
from linekeeper.receiver.keys import require_key, runtime_of
from linekeeper.reconcile.completeness import completeness_of
from linekeeper.reconcile.entity_incidents import entity_states
from linekeeper.reconcile.feed import MOST, BadCursor, ChangeAnswer, FeedReads, read_feed
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store.connection_settings import load_settings
from linekeeper.store.tables import Connection
from linekeeper.sweep.report_call import Call, record_call
from linekeeper.tokens.stored import UnreadableToken
from linekeeper.views.connections import ConnectionAnswer, detail_connection, list_connections

_MAX_REPORT = 16_384
_MAX_TOKENS = 4 * 1024 * 1024
_NO_STORE = {"Cache-Control": "no-store"}


class ConnectionsAnswer(Answer):
    """Every connection."""

    data: list[ConnectionAnswer]


class TokenAnswer(Answer):
    """The access token that a connection has now."""

    access_token: str
    expires_at: UtcTime | None


class WithheldAnswer(Answer):
    """Why there is no token that works."""

    incident: str | None = Field(description="The open incident, which is being worked on")
    error: str


class HandedAnswer(Answer):
    """What became of each token that was handed over, in order."""

    results: list[HandedResult]


class ChangesAnswer(Answer):
    """Some of the change feed."""

    data: list[ChangeAnswer]
    next: str = Field(description="The cursor to go on with")


async def list_all(request: Request) -> Response:
    """`GET /api/connections`: every connection with its setup and health."""
    await require_key(request, "connections:read")
    async with runtime_of(request).store.read() as session:
        return _json(ConnectionsAnswer(data=await list_connections(session)))


async def show_connection(request: Request) -> Response:
    """`GET /api/connections/{connection}`: one, with its open incident, what it was configured to,
    and per entity how many records the source has and how many are here."""
    await require_key(request, "connections:read")
    rt = runtime_of(request)
    connection = await _find(rt, request)
    entities = await entity_states(rt.store, connection_id=connection.id)
    async with rt.store.read() as session:
        detail = await detail_connection(
            session,
            connection,
            incident=await incident_of(session, connection.id),
            records=[completeness_of(entity) for entity in entities],
            settings=(await load_settings(session, [connection.id])).get(connection.id, {}),
        )
    return _json(detail)


async def token(request: Request) -> Response:
    """`GET /api/connections/{connection}/token`: the access token it has now, or 409."""
    holder = await require_key(request, "tokens:read")
    rt = runtime_of(request)
    connection = await _find(rt, request)
    try:
        given = await issue_access_token(rt, connection, by=holder.by, now=utcnow())
    except MakiniError as error:
        wait = str(int(error.retry_after or 30))
        raise HTTPException(
            503,
            "Makini could not be asked for a token: try again",
            headers={"Retry-After": wait},
        ) from None
    except UnreadableToken:
        raise HTTPException(
            503,
            "the stored token can't be decrypted with Linekeeper's keys: go on with the last one",
            headers={"Retry-After": "30"},
        ) from None
    except UnknownApp as error:
        raise HTTPException(409, str(error)) from None
    if isinstance(given, IssuedToken):
        answer = TokenAnswer(access_token=given.access_token, expires_at=given.expires_at)
        return _json(answer, headers=_NO_STORE)
    withheld = WithheldAnswer(incident=given.incident, error=given.reason)
    return _json(withheld, status=409, headers=_NO_STORE)


async def hand_over(request: Request) -> Response:
    """`POST /api/tokens`: up to 1,000 tokens that the product lends, or hands over for good."""
    holder = await require_key(request, "tokens:write")
    rt = runtime_of(request)
    try:
        value = orjson.loads(await read_body(request, _MAX_TOKENS))
        handed = parse_handed(value, now=utcnow())
    except orjson.JSONDecodeError:
        raise HTTPException(422, "the body is not JSON") from None
    except BadTokens as error:
        raise HTTPException(422, str(error)) from None
    results = await take_over(rt, handed, by=holder.by, now=utcnow(), within=ASKED_FOR_SECONDS)
    return _json(HandedAnswer(results=results), headers=_NO_STORE)


async def report(request: Request) -> Response:
    """`POST /api/connections/{connection}/observations`: how a call of the product went."""
    await require_key(request, "observations:write")
    rt = runtime_of(request)
    connection = await _find(rt, request)
    call = _call(await read_body(request, _MAX_REPORT), utcnow())
    try:
        app = await rt.app(connection.app)
    except UnknownApp:
        app = AppConfig(name=connection.app)  # taken out of the settings: nothing is changed there
    await record_call(rt, app, connection.id, call)
    if call.is_trouble:
        follow_ups: FollowUps = request.app.state.follow_ups
        follow_ups.note(connection.app, connection.id)
    return JSONResponse({"status": "accepted"}, status_code=202)


async def changes(request: Request) -> Response:
    """`GET /api/changes?after=CURSOR`: the change feed from a cursor on; 400 for one not ours."""
    holder = await require_key(request, "changes:read")
    wanted = request.query_params.get("limit", str(MOST))
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10 and 0 < int(wanted) <= MOST):
        raise HTTPException(422, f"limit must be a number from 1 to {MOST}")
    try:
        page = await read_feed(
            runtime_of(request).store, request.query_params.get("after"), limit=int(wanted)
        )
    except BadCursor as error:
        raise HTTPException(400, str(error)) from None
    reads: FeedReads = request.app.state.feed_reads
    reads.note(holder.id, page.after, page.upto, at=utcnow())
    return _json(
        ChangesAnswer.model_construct(data=page.changes, next=page.next), headers=_NO_STORE
    )


async def _find(rt: Runtime, request: Request) -> Connection:
    async with rt.store.read() as session:
        try:
            return await find_by_id_or_key(session, request.path_params["connection"])
        except NoSuchConnection as error:
            raise HTTPException(404, str(error)) from None


def _is_status(number: int) -> bool:
    return number == 0 or 100 <= number <= 599


def _call(body: bytes, now: datetime) -> Call:
    """The report in `body`. Raises `HTTPException` 422 with what is wrong."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HTTPException(422, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(422, "send an object such as {“status”: 401}")
    status = value.get("status")
    if not isinstance(status, int) or isinstance(status, bool) or not _is_status(status):
        raise HTTPException(
            422, "status must be the HTTP status (100 to 599), or 0 if there was no answer"
        )
    return Call(
        status=status,
        at=_reported_time(value.get("at"), now),
        code=_short(value.get("code")),
        request_id=_short(value.get("request_id")),
    )


def _reported_time(value: object, now: datetime) -> datetime:
    if value is None:
        return now
    try:
        at = as_utc(datetime.fromisoformat(str(value)))
    except (ValueError, OverflowError):
        raise HTTPException(422, "at must be a time such as 2026-01-31T12:00:00Z") from None
    return min(at, now)


def _short(value: object) -> str | None:
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = "".join(c for c in str(value) if c.isprintable())[:200]
    return text or None


def _json(answer: Answer, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(answer.encoded(), status, headers, media_type="application/json")


ROUTES = [
    Route("/api/changes", changes, methods=["GET"]),
    Route("/api/connections", list_all, methods=["GET"]),
    ConnectionRoute("", show_connection, method="GET"),
    ConnectionRoute("/token", token, method="GET"),
    Route("/api/tokens", hand_over, methods=["POST"]),
    ConnectionRoute("/observations", report, method="POST"),
]
