"""What a worker reports of a test reaches the process that hands the tests out, whatever it is."""

import execnet
import pytest


def test_a_failure_over_text_that_is_no_utf_8_is_reported(request: pytest.FixtureRequest) -> None:
    """It ended the run of all tests with an internal error, and nobody saw which had failed."""
    report = pytest.TestReport(
        nodeid="tests/test_x.py::test_x",
        location=("tests/test_x.py", 1, "test_x"),
        keywords={},
        outcome="failed",
        longrepr="assert 'a\ud800b' == 'ä'",
        when="call",
        sections=[("Captured log call", "\udc80")],
    )
    hook = request.config.hook
    data = hook.pytest_report_to_serializable(config=request.config, report=report)
    sent = execnet.loads(execnet.dumps(data))
    assert (sent["longrepr"], sent["sections"]) == (
        "assert 'a\\ud800b' == 'ä'",
        [("Captured log call", "\\udc80")],
    )
