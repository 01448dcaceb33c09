"""The tables. Columns named in INTERFACE "Tables" are a promise to other programs."""

from linekeeper.store.tables.fleet import Connection, Contact, Credential, Customer
from linekeeper.store.tables.health import Incident, IncidentConnection, Observation, Transition
from linekeeper.store.tables.house import AppSetting, AppState, Audit, Lease, NoticeMessage, Outbox
from linekeeper.store.tables.inbox import (
    DeliveryCount,
    ReceiverHeartbeat,
    RejectedDelivery,
    WebhookEvent,
)

__all__ = [
    "AppSetting",
    "AppState",
    "Audit",
    "Connection",
    "Contact",
    "Credential",
    "Customer",
    "DeliveryCount",
    "Incident",
    "IncidentConnection",
    "Lease",
    "NoticeMessage",
    "Observation",
    "Outbox",
    "ReceiverHeartbeat",
    "RejectedDelivery",
    "Transition",
    "WebhookEvent",
]
