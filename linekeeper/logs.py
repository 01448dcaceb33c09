"""Logs: a line for people, or a JSON object a line for machines (`LINEKEEPER_LOG_FORMAT=json`)."""

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

IDS = ("app", "connection", "incident", "event", "request_id")
"""What a line may be about: our ids, and Makini's request id. Given as `extra=`."""
WAY = logging.getLogger("linekeeper.way")
"""Which deliveries passed which hop; silent unless logs are for machines."""
_OF_WAY = ("hop", "events", "deliveries", "answers")

Format = Literal["text", "json"]


class JsonLines(logging.Formatter):
    """One object a line: `at` (UTC), `level`, `logger`, `message`, and the ids it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "at": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= ids_of(record)
        line |= {name: getattr(record, name) for name in _OF_WAY if hasattr(record, name)}
        if record.exc_info and record.exc_info[1] is not None:
            line = ids_of(record.exc_info[1]) | line
            line["error"] = type(record.exc_info[1]).__name__
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def ids_of(something: object) -> dict[str, str]:
    """The ids an error (such as `MakiniError`) or a log record carries."""
    return {
        name: value
        for name in IDS
        if isinstance(value := getattr(something, name, None), str) and value
    }


def passed(hop: str, events: Sequence[str], **details: Sequence[object]) -> None:
    """Say that `events` (their ids; of a forward the `webhook-id`) passed `hop` together.

    One line a group, so that what a machine can search for costs the hot path little; whoever
    is on it asks `WAY` first, and gathers nothing where nobody reads it.
    """
    if events:
        about = {"hop": hop, "events": list(events), **details}
        WAY.info("%s: %d", hop, len(events), extra=about)


def set_up(form: Format, *, stream: TextIO | None = None) -> None:
    """Log what is ours to `stream` (stderr); libraries log as they are set up to."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        JsonLines()
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
    )
    log = logging.getLogger("linekeeper")
    for old in list(log.handlers):
        log.removeHandler(old)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    # SQLAlchemy logs under the name of the module, each time its pool is thrown away.
    logging.getLogger("linekeeper.store.pool").setLevel(logging.WARNING)
    WAY.setLevel(logging.INFO if form == "json" else logging.WARNING)
