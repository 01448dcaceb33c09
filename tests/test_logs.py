"""Logs as JSON lines: one object a line, with the ids it is about."""

import io
import json
import logging

from linekeeper.logs import ids_of, set_up
from linekeeper.makini import ErrorKind, MakiniError


def lines(form: str) -> tuple[io.StringIO, logging.Logger]:
    """A place to log to."""
    stream = io.StringIO()
    set_up(form, stream=stream)  # type: ignore[arg-type]
    return stream, logging.getLogger("linekeeper.test")


def test_a_line_is_an_object_with_its_ids_and_stays_one_line_with_a_traceback() -> None:
    stream, log = lines("json")
    log.info("Acme\nis back", extra={"connection": "c1", "incident": "i1", "event": None})
    try:
        raise MakiniError(
            ErrorKind.unauthorized, "no", app="default", connection="c2", request_id="req-7"
        )
    except MakiniError:
        log.exception("failed")
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first["message"] == "Acme\nis back"
    assert (first["connection"], first["incident"], first["level"]) == ("c1", "i1", "INFO")
    assert "event" not in first
    assert first["at"].endswith("+00:00")
    assert (second["connection"], second["request_id"]) == ("c2", "req-7")
    assert second["error"] == "MakiniError"
    assert "Traceback" in second["trace"]


def test_a_line_for_people_is_short() -> None:
    stream, log = lines("text")
    log.info("hello", extra={"connection": "c1"})
    assert stream.getvalue().endswith("INFO hello\n")


def test_an_error_without_ids_has_none() -> None:
    assert ids_of(ValueError("x")) == {}
