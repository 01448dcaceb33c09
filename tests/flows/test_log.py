"""What Prefect logs of a run's end, as operators read it."""

import logging

import pytest

import tasks.run  # noqa: F401 - it is what sets this up


@pytest.mark.parametrize(
    ("ended", "level"), [("Suspended(type=PAUSED)", logging.INFO), ("Failed('x')", logging.ERROR)]
)
def test_a_suspension_is_no_error(ended: str, level: int) -> None:
    logger = logging.getLogger("prefect.flow_runs")
    said = f"Finished in state {ended}"
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 1, said, (), None)
    assert logger.filter(record)
    assert (record.levelno, record.levelname) == (level, logging.getLevelName(level))
