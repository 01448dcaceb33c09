"""A class is known by its name alone, so that nobody has to ask which of two is meant."""

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("linekeeper", "flows", "tasks", "blocks")
CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
SAME = {
    # Blocks are the core's settings as the Prefect UI shows them.
    "AlertPolicy": {"linekeeper/config/alerts.py", "blocks/alert_policy.py"},
    "HealthPolicy": {"linekeeper/config/health.py", "blocks/health_policy.py"},
    # A form that asks for nothing has the same name in both flows that show it.
    "WaitingForCustomer": {"flows/authentication_setup.py", "flows/reconnect.py"},
    # What is learned of a connection, and the row that keeps it.
    "Observation": {"linekeeper/health/evidence.py", "linekeeper/store/tables/health.py"},
}


def test_no_two_classes_have_one_name() -> None:
    where = defaultdict(set)
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            for name in CLASS.findall(path.read_text()):
                where[name].add(str(path.relative_to(ROOT)))
    twice = {name: places for name, places in where.items() if len(places) > 1}
    assert twice == SAME
