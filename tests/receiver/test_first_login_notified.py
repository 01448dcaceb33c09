"""A login that did not work is told to operators, also by a link that no lost login asked for."""

import pytest
from sqlmodel import col

from linekeeper.access.invite import invite_new
from linekeeper.clock import utcnow
from linekeeper.store.tables import Outbox
from tests.receiver.test_connect import House, house, open_house, through

__all__ = ["house", "open_house"]  # fixtures


@pytest.mark.parametrize(
    ("choice", "form", "why"),
    [
        ("new:fiix", {}, "it was another system, "),
        ("new:upkeep", {"answer": "deny"}, "consent was denied"),
    ],
)
async def test_a_first_login_that_did_not_work_is_told_once(
    house: House, choice: str, form: dict[str, str], why: str
) -> None:
    made = await invite_new(
        house.rt, "Zeta Steel", "UpKeep", app="default", by="tests", now=utcnow()
    )
    for _ in range(2):
        answer = await through(house, made.url, choice, username="it@zeta.example", **form)
        assert answer.status_code in (400, 409)
    [said] = await house.rows(Outbox, col(Outbox.channel) == "slack")
    assert said.payload["text"].startswith("Zeta Steel · UpKeep: somebody tried to log in")
    assert why in said.payload["text"]
