"""The receiver does what its OpenAPI document says, whatever is asked of it (schemathesis)."""

import asyncio

import httpx
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as examples

from linekeeper.access.keys import make_key
from linekeeper.clock import utcnow
from linekeeper.store import new_id
from linekeeper.store.tables import Connection
from tests.receiver.conftest import Here, signature


@pytest.fixture(scope="module")
def product(fuzzed: tuple[asyncio.AbstractEventLoop, Here]) -> tuple[str, str]:
    """The receiver's address, and a key to its API; it knows one connection, `c1`."""
    loop, here = fuzzed

    async def prepare() -> str:
        async with here.rt.store.write() as session:
            session.add(
                Connection(
                    id=new_id(),
                    app="default",
                    makini_key="c1",
                    name="A",
                    slug="a",
                    provider="UpKeep",
                )
            )
            return await make_key(session, "product", scopes=(), by="tests", now=utcnow())

    return here.url, asyncio.run_coroutine_threadsafe(prepare(), loop).result(30)


def test_what_is_asked_is_answered_as_the_document_says(product: tuple[str, str]) -> None:
    # Importing it takes half a second, which nobody spends who runs other tests.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    conforms = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    url, key = product
    schema = schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json").json())
    seen: set[int] = set()

    for result in schema.get_all_operations():
        operation = result.ok()

        @examples(
            max_examples=12,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def ask(case: schemathesis.Case) -> None:
            if "connection" in (case.path_parameters or {}) and len(str(case.body)) % 2:
                case.path_parameters["connection"] = "c1"
            if "/webhooks/" in case.path:
                body = case.as_transport_kwargs(base_url=url)
                request = httpx.Request(
                    "POST", body["url"], json=body.get("json"), content=body.get("data")
                )
                case.headers["X-Webhook-Signature"] = signature(request.content)
            headers = {"Authorization": f"Bearer {key}"}
            answer = case.call(base_url=url, headers=headers)
            seen.add(answer.status_code)
            case.validate_response(answer, checks=conforms)

        import hypothesis

        hypothesis.given(case=operation.as_strategy())(ask)()
    assert {200, 202, 404} <= seen
