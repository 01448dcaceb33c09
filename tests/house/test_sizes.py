"""No module grows so large that a reader loses the thread."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 350
EXEMPT = {
    "linekeeper/store/migrations/versions/0001_first.py": "the first schema, never changed again",
    "linekeeper/canary/probe.py": "copied alone to machines that have nothing but Python",
}


def test_no_module_is_longer_than_350_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_bytes().splitlines())
        for folder in ("linekeeper", "sandbox", "flows", "tasks", "blocks")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lengths.keys() >= EXEMPT.keys()
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST}
    assert too_long.keys() <= EXEMPT.keys(), too_long
