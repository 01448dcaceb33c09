"""A run begins soon: a flow's file imports what the flow needs, and nothing heavy beside."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = {
    "alembic": "migrating is the command's; a run only asks for the schema (`store/schema.py`)",
    "mako": "comes with alembic",
    "pygments.lexers": "comes with mako: thirty lexers",
    "apprise": "a sender of the consumer's",
    "markdown": "comes with apprise",
    "aiosmtplib": "a sender of the consumer's",
    "prefect.cli": "the commands of Prefect",
    "prefect.server": "the server",
    "starlette": "the receiver and the server",
    "granian": "the receiver",
    "linekeeper.receiver": "the receiver",
    "linekeeper.backup": "a command",
    "sandbox": "tests and demos",
}
NEEDED_BY = {"doctor": "it asks every peer, and reads the blocks"}
CODE = """
import json, sys
from importlib import import_module
import prefect.engine, prefect.flow_engine  # what every run has, of whatever flow
before = set(sys.modules)
for name in sys.argv[1:]:
    import_module(f"flows.{name}")
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_no_flow_imports_what_only_other_parts_need() -> None:
    names = sorted(
        file.stem
        for file in (ROOT / "flows").glob("*.py")
        if file.stem not in {"__init__", "form", *NEEDED_BY}
    )
    done = subprocess.run(
        [sys.executable, "-c", CODE, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = json.loads(done.stdout.splitlines()[-1])
    assert "flows.health_sweep" in imported
    for module, why in HEAVY.items():
        found = [name for name in imported if f"{name}.".startswith(f"{module}.")]
        assert not found, f"{found[0]} is imported by a flow; {why}"
