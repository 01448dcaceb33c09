"""What a user sees of an error: one line that says what, where and what to do."""

import errno
import sqlite3
from collections.abc import Sequence

from linekeeper.refusal import UserError

_PREFIXES = {
    "Settings": "LINEKEEPER_",
    "AppConfig": "LINEKEEPER_MAKINI_",
    "SlackConfig": "LINEKEEPER_SLACK_",
    "HealthPolicy": "LINEKEEPER_",
}
"""A model whose values come from the environment → the prefix of its fields there."""


def explain(error: BaseException) -> str | None:
    """The line for an error that isn't a bug in Linekeeper; None for one that is."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError
    from sqlalchemy.exc import DBAPIError

    from linekeeper.access.modes import BadRule
    from linekeeper.backup import BackupError
    from linekeeper.customers.find import NotFound
    from linekeeper.makini import MakiniError, ReadOnlyApp
    from linekeeper.orchestrator import OrchestratorUnavailable
    from linekeeper.private import SharedHome
    from linekeeper.runtime import UnknownApp
    from linekeeper.store import KeyProblem, StoreError
    from linekeeper.store.errors import trouble_of

    if isinstance(error, BaseExceptionGroup):
        lines = [explain(inner) for inner in error.exceptions]
        return next((line for line in lines if line), None) if all(lines) else None
    if isinstance(error, ValidationError):
        return _invalid(error.title, error.errors(include_url=False, include_input=False))
    if isinstance(error, SettingsError):
        return f"a setting can't be read: {error}"
    if isinstance(error, DBAPIError | sqlite3.Error):
        return str(trouble_of(error))
    if isinstance(error, OSError) and (line := _file(error)):
        return line
    expected = (
        UserError,
        BackupError,
        BadRule,
        KeyProblem,
        StoreError,
        MakiniError,
        ReadOnlyApp,
        UnknownApp,
        NotFound,
        OrchestratorUnavailable,
        SharedHome,
    )
    return " ".join(str(error).split()) if isinstance(error, expected) else None


def _invalid(title: str, problems: Sequence[object]) -> str | None:
    """A settings model that refused its values; the values themselves are never shown."""
    prefix = _PREFIXES.get(title)
    if prefix is None:
        return None
    lines = []
    for problem in problems:
        assert isinstance(problem, dict)
        name = ".".join(str(part) for part in problem["loc"]).upper()
        message = str(problem["msg"]).removeprefix("Value error, ")
        lines.append(f"{prefix}{name}: {message[:1].lower()}{message[1:]}")
    return "; ".join(lines)


def _file(error: OSError) -> str | None:
    """A folder or a disk that can't be used; None for what is no such thing."""
    what = error.filename or "a file of LINEKEEPER_HOME, or the one asked for"
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: {reason}; make room, or set LINEKEEPER_HOME to a folder where there is"
    if error.errno == errno.EFBIG:
        return f"{what}: {reason}; raise the limit on the size of files (`ulimit -f`)"
    if error.errno == errno.EROFS:
        return f"{what}: {reason}; set LINEKEEPER_HOME to a folder that can be written"
    if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError):
        return f"{what}: {reason}; check the path, or set LINEKEEPER_HOME"
    return None
