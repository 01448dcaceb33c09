"""Nothing secret is in what is said of an address, or of a database's refusal."""

import traceback
from typing import Any

import pytest
from sqlalchemy import Executable, insert, text
from sqlalchemy.exc import DBAPIError

from linekeeper.redact import describe_error, origin, without_addresses
from linekeeper.store import Store
from linekeeper.store.tables import Customer


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "https://user:userinfo-token@host.example/a/path-token?key=query-token#f",
            "https://host.example",
        ),
        ("http://127.0.0.1:8080/hooks", "http://127.0.0.1:8080"),
        ("https://[::1]:1/x", "https://[::1]:1"),
        ("https://host:notaport/token", "an address that can't be read"),
        ("slack://token/more", "slack://…"),
    ],
)
def test_of_an_address_only_its_origin_is_said(url: str, shown: str) -> None:
    assert origin(url) == shown


def test_addresses_in_an_error_are_cut_down() -> None:
    error = ValueError("can't post to https://u:token@h.example/token?token=1: refused\nmore token")
    assert describe_error(error) == "ValueError: can't post to https://h.example refused"
    assert "token" not in without_addresses(
        "see postgresql+asyncpg://u:token@db/x and slack://token"
    )


async def test_a_databases_refusal_quotes_no_values(store: Store) -> None:
    name = "-".join(("some", "bodys", "name"))
    twice = insert(Customer).values([_customer(name), _customer(name)])
    with pytest.raises(DBAPIError) as doubled:
        await _run(store, twice)
    strange = "missing = :id" if store.is_sqlite else "id = :id"
    with pytest.raises(DBAPIError) as compared:
        await _run(store, text(f"SELECT id FROM customer WHERE {strange}").bindparams(id=name))
    for caught in (doubled, compared):
        said = str(caught.value) + "".join(traceback.format_exception(caught.value))
        assert name not in said


def _customer(name: str) -> dict[str, Any]:
    return Customer(name=name, slug=name).model_dump()


async def _run(store: Store, statement: Executable) -> None:
    async with store.write() as session:
        await session.execute(statement)
