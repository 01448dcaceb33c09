"""What events about connections say of them, however they are worded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.config import DEFAULT_ENTITIES
from linekeeper.inbox.meaning import EventNames, statement

names = EventNames(DEFAULT_ENTITIES, {})


def says(event: str, payload: Any) -> str | None:
    """What is concluded from an event as its sender spells it."""
    return statement(names.meaning(event).kind, event, payload).says


@pytest.mark.parametrize(
    "event",
    [
        "connection.reauthorized",
        "connection.re_authorized",
        "reauthorized",
        "connection.login_successful",
        "login.succeeded",
        "connection.credentials_updated",
        "authentication.succeeded",
    ],
)
@pytest.mark.parametrize("details", [{}, {"status": "done"}, {"details": {"status": "active"}}])
def test_a_login_that_is_restored_is_good_news(event: str, details: dict[str, Any]) -> None:
    assert says(event, {"type": event, **details}) == "login_restored"


@pytest.mark.parametrize(
    "word", ["reauthorized", "login_successful", "credentials_updated", "Re-Authenticated"]
)
def test_a_status_word_may_be_the_good_news(word: str) -> None:
    assert says("connection.status_changed", {"status": word}) == "login_restored"
    assert says("connection.status_changed", {"details": {"to": word}}) == "login_restored"
    assert says("connection.reauthorization", {"status": word}) == "login_restored"


@pytest.mark.parametrize(
    "word",
    [
        "auth_required",
        "reauthorization required",
        "needsReauth",
        "reauth",
        "login_required",
        "invalid credentials",
        "credentials_expired",
        "authentication failed",
        "unauthorized",
        "must be reauthorized",
        "fail",
    ],
)
def test_a_status_word_may_be_a_lost_login(word: str) -> None:
    assert says("connection.status_changed", {"status": word}) == "login_lost"


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"reason": "invalid_credentials"},
        {"status": "active"},
        {"message": "The customer must log in again."},
    ],
)
def test_an_event_that_asks_for_a_login_is_a_lost_login(details: dict[str, Any]) -> None:
    assert says("connection.auth_required", details) == "login_lost"


@pytest.mark.parametrize(
    "details",
    [
        {"error": "Table USER_LOGIN_HISTORY does not exist"},
        {"message": "column invalid in table USER_LOGIN_HISTORY"},
        {"message": "invalid USER_LOGIN_HISTORY"},
        {"error_code": "TABLE_USER_LOGIN_HISTORY_MISSING"},
        {"error": "dbo.credential_store: duplicate key"},
        {"error": "Timeout while reading login history"},
        {"message": "Field PASSWORD_EXPIRED_AT is not a date"},
        {"error": "The system reported an error."},
    ],
)
def test_a_table_that_is_called_so_is_no_lost_login(details: dict[str, Any]) -> None:
    assert says("sync.failed", details) == "sync_failing"


@pytest.mark.parametrize(
    "details",
    [
        {"error": "Login failed for user SVC_MAKINI"},
        {"code": "AUTHENTICATION_FAILED"},
        {"error_code": "SAP_LOGIN_FAILED"},
        {"message": "Sync ended: AUTHENTICATION_FAILED"},
        {"message": "The system rejects the stored credentials"},
        {"error": "401 Unauthorized"},
        {"error": "the password has expired"},
        {"sync_status": "fail"},
    ],
)
def test_a_sync_may_fail_for_a_lost_login(details: dict[str, Any]) -> None:
    assert says("sync.failed", details) == "login_lost"


@given(st.text(max_size=3_000), st.text(max_size=60))
def test_any_text_gives_an_answer(text: str, event: str) -> None:
    for kind in ("sync.failed", "connection.auth_required", "connection.status_changed"):
        assert statement(kind, event, {"error": text, "status": text}).says in (
            None,
            "answered",
            "login_restored",
            "sync_failing",
            "login_lost",
            "missed",
            "refused",
        )
