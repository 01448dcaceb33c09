"""`python -m benchmarks [NAME …]`: run the benchmarks, one after the other, each in a process.

Prints every figure with its goal and writes them all to `benchmarks/results.json`. Exits 1 if a
benchmark broke; a goal that was missed is marked, not an error, for figures depend on the machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
NO_BENCHMARK = {"__init__", "__main__", "bare", "crowd", "peers", "product", "queues", "sender"}
UPPER = ("_mb", "_s", "_ms")


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(file.stem for file in HERE.glob("*.py") if file.stem not in NO_BENCHMARK)


def is_met(name: str, value: float, goal: float) -> bool:
    """Whether a figure meets its goal: sizes, times and `linear…` are limits, ratios floors."""
    limit = name.endswith(UPPER) or name.startswith(("linear", "share"))
    return value <= goal if limit else value >= goal


def run(name: str) -> dict[str, Any]:
    """The figures of the benchmark `name`. Raises `RuntimeError` with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:] or done.stdout[-3000:])
    figures: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return figures


def show(name: str, figures: dict[str, Any]) -> None:
    """Print a benchmark's figures, those with a goal first."""
    goals = figures.get("goals", {})
    print(f"\n{name}")
    for key in sorted((key for key in figures if key != "goals"), key=lambda key: key not in goals):
        value = figures[key]
        said = f"{value:,.3g}" if isinstance(value, float) else f"{value}"
        if key in goals and isinstance(value, int | float):
            verdict = "met" if is_met(key, value, goals[key]) else "MISSED"
            said = f"{said:<12} goal {goals[key]:g}: {verdict}"
        print(f"  {key:<34} {said}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"default: all of {', '.join(names())}")
    chosen = parser.parse_args().name or names()
    if unknown := [name for name in chosen if name not in names()]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    broken = 0
    for number, name in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {name} …", flush=True)
        try:
            figures = run(name)
        except (RuntimeError, ValueError) as error:
            print(f"{name} broke: {error}", file=sys.stderr)
            broken += 1
            continue
        show(name, figures)
        results[name] = figures | {
            "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
            "machine": f"{os.cpu_count()} cores, {platform.system()}, "
            f"Python {platform.python_version()}",
        }
        RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    if broken < len(chosen):
        print(f"\nwritten to {RESULTS.relative_to(HERE.parent)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
