"""A key is written and compared; nothing reads a part of it back."""

import ast

from tests.house.test_sizes import ROOT

KEYS = (
    *("dedupe_key", "group_key", "ordering_key", "idempotency_key"),
    *("Lease.name", "lease.name", "AppSetting.name", "SETTING.c.name", "claimed_by"),
)
READING = {
    *("split", "rsplit", "partition", "rpartition", "startswith", "endswith", "removeprefix"),
    *("removesuffix", "contains", "like", "ilike", "fullmatch", "regexp_match"),
}
OF_BEFORE = {
    "linekeeper/access/listing.py": "settings of before say in their names what they are",
    "linekeeper/consumer/alive.py": "claims of before say in their names whose they are",
    "linekeeper/notify/groups.py": "notices of the version before say in a key why they share one",
    "linekeeper/store/configuration.py": "as listings do",
    "linekeeper/store/leases.py": "leases of before say in their names what they are",
    "linekeeper/outbox/about.py": "messages of the version before say what they are about in keys",
}


def test_no_part_of_a_key_is_read_back() -> None:
    found: dict[str, list[str]] = {}
    for folder in ("linekeeper", "flows", "tasks"):
        for path in (ROOT / folder).rglob("*.py"):
            if "versions" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    read = ast.unparse(node.func.value)
                    if node.func.attr in READING and any(key in read for key in KEYS):
                        found.setdefault(str(path.relative_to(ROOT)), []).append(ast.unparse(node))
    assert found.keys() == OF_BEFORE.keys(), found
