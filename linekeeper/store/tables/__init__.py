"""The tables. Columns named in INTERFACE "Tables" are a promise to other programs."""

from linekeeper.store.tables.alerts import Notice, NoticeChannel, Silence
from linekeeper.store.tables.customer_page import CustomerLink
from linekeeper.store.tables.fleet import Connection, Contact, Credential, Customer
from linekeeper.store.tables.health import (
    Incident,
    IncidentConnection,
    IncidentEntry,
    Observation,
    Transition,
)
from linekeeper.store.tables.house import (
    AppSetting,
    AppState,
    Audit,
    CallCount,
    CallPause,
    Lease,
    NoticeMessage,
    Outbox,
)
from linekeeper.store.tables.implementation import (
    CreditEntry,
    Gate,
    Implementation,
    ImplementationSystem,
    PreflightReport,
)
from linekeeper.store.tables.inbox import (
    DeliveryCount,
    ReceiverHeartbeat,
    RejectedDelivery,
    WebhookEvent,
    WebhookHour,
)
from linekeeper.store.tables.modes import ModeRule
from linekeeper.store.tables.reconnect import (
    ApiKey,
    AuthenticationSetup,
    ConnectAttempt,
    ConnectLink,
    PendingLogin,
    Reconnect,
)
from linekeeper.store.tables.records import (
    Change,
    ConnectionSetting,
    Deletion,
    Drift,
    Feed,
    FeedEnd,
    Outage,
    Record,
    Watermark,
    WebhookTrust,
    WorkflowConfiguration,
)
from linekeeper.store.tables.succession import Succession, SuccessionStep
from linekeeper.store.tables.traces import FeedRead, ForwardAttempt
from linekeeper.store.tables.watch import EndedRun, OpenProcess, PartHeartbeat, RunAlert

__all__ = [
    "ApiKey",
    "AppSetting",
    "AppState",
    "Audit",
    "AuthenticationSetup",
    "CallCount",
    "CallPause",
    "Change",
    "ConnectAttempt",
    "ConnectLink",
    "Connection",
    "ConnectionSetting",
    "Contact",
    "Credential",
    "CreditEntry",
    "Customer",
    "CustomerLink",
    "Deletion",
    "DeliveryCount",
    "Drift",
    "EndedRun",
    "Feed",
    "FeedEnd",
    "FeedRead",
    "ForwardAttempt",
    "Gate",
    "Implementation",
    "ImplementationSystem",
    "Incident",
    "IncidentConnection",
    "IncidentEntry",
    "Lease",
    "ModeRule",
    "Notice",
    "NoticeChannel",
    "NoticeMessage",
    "Observation",
    "OpenProcess",
    "Outage",
    "Outbox",
    "PartHeartbeat",
    "PendingLogin",
    "PreflightReport",
    "ReceiverHeartbeat",
    "Reconnect",
    "Record",
    "RejectedDelivery",
    "RunAlert",
    "Silence",
    "Succession",
    "SuccessionStep",
    "Transition",
    "Watermark",
    "WebhookEvent",
    "WebhookHour",
    "WebhookTrust",
    "WorkflowConfiguration",
]
