"""Requests and answers as the model Makini sees and writes them."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any


@dataclass
class Answer:
    """A status, headers and a body."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One request as the model sees it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    now: datetime


def pause_headers(seconds: float, style: str, now: datetime) -> dict[str, str]:
    """How a pause of so many seconds is asked for."""
    match style:
        case "date":
            until = format_datetime(now + timedelta(seconds=seconds), usegmt=True)
            return {"retry-after": until, "date": format_datetime(now, usegmt=True)}
        case "none":
            return {}
    return {"retry-after": str(int(seconds))}


def spelled(lifecycle: str, case: str) -> str:
    """A state as this Makini writes it."""
    words = lifecycle.replace("_", " ")
    return {"upper": words.upper(), "snake": words.lower().replace(" ", "_")}.get(case, lifecycle)


def as_json(value: Any, status: int = 200) -> Answer:
    """An answer of JSON."""
    return Answer(status, json.dumps(value).encode(), {"content-type": "application/json"})
