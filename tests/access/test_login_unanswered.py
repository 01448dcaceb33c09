"""A login of which Makini's answer is lost: it may have killed the pair that is held here."""

from dataclasses import replace
from datetime import timedelta

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.access.issue import IssuedToken, issue_access_token
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection
from linekeeper.tokens.stored import save_tokens
from tests.access.rotating import (
    Rotating,
    managed,
    pair_of,
    rotating,
    rotating_server,
    with_k1,
)
from tests.access.test_writers import log_in

__all__ = ["managed", "rotating", "rotating_server"]  # fixtures


def answers_login(rotating: Rotating, status: int, *, rotates: bool) -> None:
    """For a code, no pair: Makini, or what stands before it, answers with `status` alone."""

    async def token(request: Request) -> Response:
        if b"authorization_code" not in await request.body():
            return await rotating._token(request)
        rotating.number += rotates
        return JSONResponse({"message": "no"}, status)

    rotating.peer.answer("POST", "/link/token", token)


def mints(rotating: Rotating) -> None:
    def mint(_: Request) -> Response:
        rotating.number += 1
        return JSONResponse({"token": f"a{rotating.number}", "expires_in": 300})

    rotating.peer.answer("POST", "/api/system/connections/k1/token", mint)


async def lasting(rt: Runtime, identifier: str, rotating: Rotating) -> None:
    """The pair that lives has its thirty days before it."""
    pair = replace(rotating.pair(), expires_at=utcnow() + timedelta(days=30))
    async with rt.store.write() as session:
        await save_tokens(rt.store, session, {identifier: pair}, now=utcnow())


async def given(rt: Runtime, identifier: str) -> str:
    async with rt.store.read() as session:
        connection = await session.get_one(Connection, identifier)
    issued = await issue_access_token(rt, connection, by="product", now=utcnow())
    assert isinstance(issued, IssuedToken)
    return issued.access_token


async def test_the_product_gets_no_token_that_a_login_may_have_killed(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        await lasting(rt, identifier, rotating)
        answers_login(rotating, 502, rotates=True)
        mints(rotating)
        assert (await log_in(rt, identifier)).how == "away"
        assert await given(rt, identifier) == "a3", "the pair was tried, and replaced"


@pytest.mark.parametrize(("status", "calls"), [(502, 1), (400, 0)])
async def test_a_pair_that_lives_is_given_whatever_became_of_the_login(
    managed: Settings, rotating: Rotating, status: int, calls: int
) -> None:
    """It is tried first only where Makini did not say that it refuses the login."""
    async with with_k1(managed, rotating) as (rt, identifier):
        await lasting(rt, identifier, rotating)
        answers_login(rotating, status, rotates=False)
        await log_in(rt, identifier)
        assert await given(rt, identifier) == "a1"
        assert rotating.status_calls == calls


async def test_a_login_that_was_stored_leaves_no_doubt(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        await log_in(rt, identifier)
        pair = await pair_of(rt.store, identifier)
        assert pair is not None
        assert (pair.token.access, pair.in_doubt_since) == ("a2", None)
