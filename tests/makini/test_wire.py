"""What comes back when the other side, or the way to it, misbehaves."""

import asyncio
import codecs
import gzip
import pickle
from collections.abc import AsyncIterator, Callable

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

import linekeeper
from linekeeper.makini import ErrorKind, MakiniClient, MakiniError
from linekeeper.makini.http_client import MAX_BODY_BYTES
from tests.makini.peer import CLIENT_SECRET, Peer

CURRENT = "/api/integrations/current"
GOOD = {"data": {"id": "7", "sync_status": "done"}}
Connect = Callable[..., MakiniClient]


async def failure(makini: MakiniClient) -> MakiniError:
    with pytest.raises(MakiniError) as caught:
        await makini.status("token-of-acme", connection="acme-ecc")
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, ErrorKind.rejected, False),
        (401, ErrorKind.unauthorized, False),
        (403, ErrorKind.forbidden, False),
        (404, ErrorKind.not_found, False),
        (408, ErrorKind.timeout, True),
        (422, ErrorKind.rejected, False),
        (429, ErrorKind.rate_limited, True),
        (500, ErrorKind.unavailable, True),
        (503, ErrorKind.unavailable, True),
    ],
)
async def test_each_status_has_its_kind(
    peer: Peer, makini: MakiniClient, status: int, kind: ErrorKind, retryable: bool
) -> None:
    body = {"code": "SOME_CODE", "message": "No.", "request_id": "req-1"}
    peer.answer("GET", CURRENT, lambda _: JSONResponse(body, status))
    error = await failure(makini)
    assert (error.kind, error.retryable, error.status) == (kind, retryable, status)
    assert (error.code, error.message, error.request_id) == ("SOME_CODE", "No.", "req-1")
    assert (error.app, error.connection) == ("plant", "acme-ecc")


async def test_an_error_is_one_line_that_says_where_and_what_to_do(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer(
        "GET",
        CURRENT,
        lambda _: JSONResponse(
            {"error": {"code": "AUTHENTICATION_FAILED", "message": "Bad\nlogin."}},
            401,
            {"X-Request-Id": "req-9"},
        ),
    )
    assert str(await failure(makini)) == (
        "Makini refused the login (401): Bad login [app plant, connection acme-ecc, "
        "code AUTHENTICATION_FAILED, request id req-9]. Renew its token; if that fails too, "
        "the customer has to log in again."
    )


async def test_an_error_survives_pickling(peer: Peer, makini: MakiniClient) -> None:
    peer.answer("GET", CURRENT, lambda _: JSONResponse({}, 429, {"Retry-After": "7"}))
    error = await failure(makini)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert (copy.kind, copy.retry_after, copy.retryable) == (error.kind, 7.0, True)


async def test_a_token_the_peer_echoes_does_not_show(peer: Peer, makini: MakiniClient) -> None:
    def echo(request: Request) -> Response:
        return JSONResponse({"message": f"bad {request.headers['authorization']}"}, 401)

    peer.answer("GET", CURRENT, echo)
    error = await failure(makini)
    assert "token-of-acme" not in f"{error} {error!r} {error.message}"


async def test_the_client_secret_does_not_show(peer: Peer, makini: MakiniClient) -> None:
    async def echo(request: Request) -> Response:
        return Response(await request.body(), 401)

    peer.answer("POST", "/link/token", echo)
    with pytest.raises(MakiniError) as caught:
        await makini.check()
    assert caught.value.kind is ErrorKind.unauthorized
    assert CLIENT_SECRET not in f"{caught.value} {caught.value!r}"
    assert "client_id and client_secret of app plant" in str(caught.value)


async def test_a_long_message_is_capped(peer: Peer, makini: MakiniClient) -> None:
    peer.answer("GET", CURRENT, lambda _: JSONResponse({"message": "x" * 5000}, 500))
    assert len((await failure(makini)).message) == 300


async def test_html_instead_of_json_is_named_by_its_title(peer: Peer, makini: MakiniClient) -> None:
    page = "<!doctype html><html><head><title>Sign in</title></head></html>"
    peer.answer("GET", CURRENT, lambda _: Response(page, media_type="text/html"))
    error = await failure(makini)
    assert (error.kind, error.retryable) == (ErrorKind.malformed, True)
    assert "HTML page titled “Sign in”" in str(error)


@pytest.mark.parametrize("body", [b'{"data": {"id": "7", "sync_st', b"", b"\xff\xfe\x00"])
async def test_truncated_json_may_pass(peer: Peer, makini: MakiniClient, body: bytes) -> None:
    peer.answer("GET", CURRENT, lambda _: Response(body))
    error = await failure(makini)
    assert (error.kind, error.retryable) == (ErrorKind.malformed, True)


@pytest.mark.parametrize("value", [[], {}, {"data": []}, {"data": {}}, 1, None, "done"])
async def test_json_that_is_no_status_is_malformed(
    peer: Peer, makini: MakiniClient, value: object
) -> None:
    peer.answer("GET", CURRENT, lambda _: JSONResponse(value))
    assert (await failure(makini)).kind is ErrorKind.malformed


async def test_a_byte_order_mark_before_an_answer_is_passed_over(
    peer: Peer, makini: MakiniClient
) -> None:
    def marked(value: object, status: int) -> Response:
        body = codecs.BOM_UTF8 + orjson.dumps(value)
        return Response(body, status, media_type="application/json")

    peer.answer("GET", CURRENT, lambda _: marked(GOOD, 200))
    assert (await makini.status("token", connection="k1")).sync_status == "done"
    peer.answer("GET", CURRENT, lambda _: marked({"code": "AUTHENTICATION_FAILED"}, 401))
    assert (await failure(makini)).code == "AUTHENTICATION_FAILED"


@pytest.mark.parametrize("status", [200, 503])
async def test_a_request_id_of_other_bytes_can_be_kept(
    peer: Peer, makini: MakiniClient, status: int
) -> None:
    def answer(_: Request) -> Response:
        answer = JSONResponse(GOOD, status)
        answer.raw_headers.append((b"x-request-id", b"req-\xfc\xff7"))
        return answer

    peer.answer("GET", CURRENT, answer)
    if status == 200:
        request_id = (await makini.status("token", connection="k1")).request_id
    else:
        request_id = (await failure(makini)).request_id
    assert (request_id or "").encode().startswith(b"req-")


async def test_a_redirect_is_not_followed(peer: Peer, makini: MakiniClient) -> None:
    peer.answer("GET", CURRENT, lambda _: RedirectResponse("/elsewhere"))
    peer.answer("GET", "/elsewhere", GOOD)
    error = await failure(makini)
    assert error.kind is ErrorKind.malformed
    assert "/elsewhere" in str(error)
    assert peer.asked("/elsewhere") == []


async def test_a_huge_body_is_not_read_to_its_end(peer: Peer, makini: MakiniClient) -> None:
    async def huge() -> AsyncIterator[bytes]:
        for _ in range(2 * MAX_BODY_BYTES // 65536):
            yield b" " * 65536

    peer.answer("GET", CURRENT, lambda _: StreamingResponse(huge()))
    error = await failure(makini)
    assert (error.kind, "larger than 8 MiB" in str(error)) == (ErrorKind.malformed, True)


async def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(
    peer: Peer, makini: MakiniClient
) -> None:
    bomb = gzip.compress(b" " * (MAX_BODY_BYTES * 2))
    peer.answer("GET", CURRENT, lambda _: Response(bomb, headers={"Content-Encoding": "gzip"}))
    assert (await failure(makini)).kind is ErrorKind.malformed


async def test_a_body_that_is_not_the_gzip_it_claims_is_malformed(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("GET", CURRENT, lambda _: Response(b"{}", headers={"Content-Encoding": "gzip"}))
    assert (await failure(makini)).kind is ErrorKind.malformed


async def test_a_dripping_body_ends_at_the_time_out(peer: Peer, connect: Connect) -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.02)

    peer.answer("GET", CURRENT, lambda _: StreamingResponse(drip()))
    error = await failure(connect(timeout_seconds=0.3))
    assert (error.kind, error.retryable) == (ErrorKind.timeout, True)
    assert "no complete answer within 0.3 s" in str(error)


async def test_a_peer_that_never_answers_is_a_time_out(peer: Peer, connect: Connect) -> None:
    async def never(_: Request) -> Response:
        await asyncio.sleep(1)
        return JSONResponse(GOOD)

    peer.answer("GET", CURRENT, never)
    assert (await failure(connect(timeout_seconds=0.1))).kind is ErrorKind.timeout


@pytest.mark.parametrize("api_url", ["http://127.0.0.1:1", "http://nobody.invalid"])
async def test_no_way_through_is_a_network_error(connect: Connect, api_url: str) -> None:
    error = await failure(connect(api_url=api_url))
    assert (error.kind, error.retryable) == (ErrorKind.network, True)
    assert "Check api_url of app plant" in str(error)


async def raw_answer(connect: Connect, answer: bytes) -> MakiniError:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await failure(connect(api_url=f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", ErrorKind.network),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", ErrorKind.network),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ErrorKind.malformed),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", ErrorKind.malformed),
    ],
)
async def test_a_peer_that_breaks_off_or_speaks_no_http_is_said(
    connect: Connect, answer: bytes, kind: ErrorKind
) -> None:
    assert (await raw_answer(connect, answer)).kind is kind


@pytest.mark.parametrize(
    "api_url",
    ["https://", "http://[::1", "http://me:pw@host", "http://host/?a=1", "http://host#x"],
)
def test_an_address_that_is_none_is_said_at_once(connect: Connect, api_url: str) -> None:
    with pytest.raises(MakiniError, match="api_url is not an address"):
        connect(api_url=api_url)


async def test_a_host_name_nobody_can_have_is_a_network_error(connect: Connect) -> None:
    error = await failure(connect(api_url=f"http://{'a' * 70}.invalid"))
    assert error.kind is ErrorKind.network


async def test_cookies_of_one_connection_never_reach_the_next(peer: Peer, connect: Connect) -> None:
    # By a name: of a host that is a number, who does keep cookies keeps none.
    makini = connect(api_url=peer.url.replace("127.0.0.1", "localhost"))
    peer.answer(
        "GET", CURRENT, lambda _: JSONResponse(GOOD, headers={"Set-Cookie": "session=acme"})
    )
    await makini.status("token-of-acme", connection="acme")
    await makini.status("token-of-zeta", connection="zeta")
    first, second = peer.asked(CURRENT)
    assert first.headers["authorization"] == "Bearer token-of-acme"
    assert second.headers["authorization"] == "Bearer token-of-zeta"
    assert "cookie" not in second.headers
    assert second.headers["user-agent"] == f"linekeeper/{linekeeper.__version__}"


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "schlüssel"])
async def test_a_token_no_header_can_carry_is_never_sent(
    peer: Peer, makini: MakiniClient, token: str
) -> None:
    with pytest.raises(MakiniError) as caught:
        await makini.status(token, connection="acme-ecc")
    assert caught.value.kind is ErrorKind.unauthorized
    assert peer.seen == []


async def test_more_calls_than_fit_at_once_wait_without_timing_out(
    peer: Peer, connect: Connect
) -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(2.0)
        return JSONResponse(GOOD)

    peer.answer("GET", CURRENT, slow)
    makini = connect(timeout_seconds=5.5)  # 300 calls in three waves take longer than that
    found = await asyncio.gather(*(makini.status("t", connection=str(n)) for n in range(300)))
    assert {status.sync_status for status in found} == {"done"}
