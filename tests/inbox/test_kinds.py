"""Event names as they may be spelled, and what they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.config import DEFAULT_ENTITIES
from linekeeper.inbox.meaning import EventNames, Meaning

names = EventNames(DEFAULT_ENTITIES, {})


@pytest.mark.parametrize(
    ("name", "kind", "entity"),
    [
        ("assets.updated", "record.updated", "eam/assets"),
        ("work-orders.inserted", "record.inserted", "eam/work-orders"),
        ("work_orders.updated", "record.updated", "eam/work-orders"),
        ("workOrders.updated", "record.updated", "eam/work-orders"),
        ("WorkOrder.Updated", "record.updated", "eam/work-orders"),
        ("WORK_ORDERS.UPDATED", "record.updated", "eam/work-orders"),
        ("eam.assets.created", "record.inserted", "eam/assets"),
        ("purchase orders updated", "record.updated", "erp/purchase-orders"),
        ("sites.deleted", "record.deleted", "eam/sites"),
        ("materials.updated", "record.updated", "materials"),
        ("sync.completed", "sync.completed", None),
        ("syncCompleted", "sync.completed", None),
        ("synchronization.finished", "sync.completed", None),
        ("sync.failed", "sync.failed", None),
        ("initial_sync_error", "sync.failed", None),
        ("connection.auth_required", "connection.auth_required", None),
        ("connection.authentication-required", "connection.auth_required", None),
        ("ConnectionReauthorizationRequired", "connection.auth_required", None),
        ("reauth_required", "connection.auth_required", None),
        ("connection.needs_reauth", "connection.auth_required", None),
        ("credentials.expired", "connection.auth_required", None),
        ("connection.status_changed", "connection.status_changed", None),
        ("connection-statuses.updated", "connection.status_changed", None),
        ("connectionStatus.updated", "connection.status_changed", None),
        ("connection.offline", "connection.status_changed", None),
        ("system.error", "system.error", None),
        ("authentication.succeeded", "connection.status_changed", None),
        ("connection.reauthorized", "connection.status_changed", None),
        ("connection.re-authorized", "connection.status_changed", None),
        ("reauthorized", "connection.status_changed", None),
        ("connection.login_successful", "connection.status_changed", None),
        ("loginSuccessful", "connection.status_changed", None),
        ("connection.credentials_updated", "connection.status_changed", None),
        ("credentials.changed", "connection.auth_required", None),
        ("ping", "unknown", None),
        ("updated", "unknown", None),
        ("", "unknown", None),
        ("x" * 201, "unknown", None),
        ("заказ.обновлён", "unknown", None),
    ],
)
def test_a_name_is_read_however_it_is_spelled(name: str, kind: str, entity: str | None) -> None:
    assert names.meaning(name) == Meaning(kind, entity)


def test_an_operators_pattern_comes_before_the_built_in_table() -> None:
    own = EventNames(["eam/assets"], {"Conn.*": "connection.auth_required", "eq.*": "x"})
    assert own.meaning("conn.anything") == Meaning("connection.auth_required")
    assert own.meaning("EQ.moved") == Meaning("x")
    assert own.meaning("assets.updated") == Meaning("record.updated", "eam/assets")


@given(st.text(max_size=250))
def test_any_name_has_a_meaning_and_what_is_remembered_is_bounded(name: str) -> None:
    assert names.meaning(name) == names.meaning(name)
    assert len(names._known) <= 1024
