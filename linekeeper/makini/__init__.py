"""Makini over HTTP: client, tokens, pagination, errors, circuits, call budget."""

from linekeeper.makini.budget import (
    Bucket,
    Budget,
    Paused,
    grant,
    new_bucket,
    penalise,
    yield_calls,
)
from linekeeper.makini.circuit import (
    AppCircuit,
    CircuitState,
    after_failure,
    begin_probe,
    may_call,
    may_call_data,
    why_held,
)
from linekeeper.makini.client import MakiniClient
from linekeeper.makini.errors import (
    ENDS_LOOP,
    NO_TOKEN,
    ErrorKind,
    ErrorScope,
    MakiniError,
    ReadOnlyApp,
    error_scope,
)
from linekeeper.makini.in_mode import client_in_mode
from linekeeper.makini.models import (
    ConnectionPage,
    ConnectionStatus,
    Lifecycle,
    ListedConnection,
    RecordPage,
    TokenPair,
    normalise_status,
    normalise_sync_status,
)
from linekeeper.makini.wire import (
    BEFORE_SENDING,
    CONNECTION_PAUSED,
    NEW_LOGIN,
    OTHER_SHAPE,
    PAUSED,
    TOO_LARGE,
)

__all__ = [
    "BEFORE_SENDING",
    "CONNECTION_PAUSED",
    "ENDS_LOOP",
    "NEW_LOGIN",
    "NO_TOKEN",
    "OTHER_SHAPE",
    "PAUSED",
    "TOO_LARGE",
    "AppCircuit",
    "Bucket",
    "Budget",
    "CircuitState",
    "ConnectionPage",
    "ConnectionStatus",
    "ErrorKind",
    "ErrorScope",
    "Lifecycle",
    "ListedConnection",
    "MakiniClient",
    "MakiniError",
    "Paused",
    "ReadOnlyApp",
    "RecordPage",
    "TokenPair",
    "after_failure",
    "begin_probe",
    "client_in_mode",
    "error_scope",
    "grant",
    "may_call",
    "may_call_data",
    "new_bucket",
    "normalise_status",
    "normalise_sync_status",
    "penalise",
    "why_held",
    "yield_calls",
]
