"""Which tests go to one worker, where several share them."""

import pytest


def test_side_by_side_the_tests_that_share_something_go_to_one_worker(
    request: pytest.FixtureRequest,
) -> None:
    """With another order of the hooks the groups are lost in silence: three houses, 31 minutes."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("these tests don't run side by side: make test")
    for item in request.session.items:
        if "e2e" in item.path.parts:
            assert item.nodeid.endswith("@house")
        elif "prefect_server" in getattr(item, "fixturenames", ()):
            is_flow = "flows" in item.path.parts and "test_sweep" not in item.path.name
            assert item.nodeid.endswith("@flows" if is_flow else "@prefect")
