"""A preflight's report: what was checked, from where, when; as JSON and as text."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from linekeeper.preflight.verdict import NOT_PROVEN, PROVES, Vantage, Verdict

VERSION = 1


@dataclass(frozen=True, slots=True)
class Report:
    """All verdicts of one run. `at` is aware UTC, by the clock of the machine that checked."""

    vantage: Vantage
    at: datetime
    targets: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    version: int = VERSION

    @property
    def findings(self) -> tuple[Verdict, ...]:
        """What has to be mended."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "finding")

    def of(self, target: str) -> list[dict[str, Any]]:
        """The verdicts on `target`, as plain values."""
        return [asdict(verdict) for verdict in self.verdicts if verdict.target == target]

    def passed(self, target: str) -> bool:
        """Whether `target` could be judged and nothing was found."""
        own = [verdict for verdict in self.verdicts if verdict.target == target]
        judged = any(verdict.check == "tcp" and verdict.status != "skipped" for verdict in own)
        return judged and all(verdict.status != "finding" for verdict in own)


def as_json(report: Report) -> str:
    """The report, as `intake.parse_report` takes it back."""
    data: Mapping[str, object] = {
        "version": report.version,
        "vantage": report.vantage,
        "proves": PROVES[report.vantage],
        "not_proven": NOT_PROVEN,
        "at": report.at.isoformat(),
        "passed": all(map(report.passed, report.targets)),
        "targets": list(report.targets),
        "verdicts": [asdict(verdict) for verdict in report.verdicts],
    }
    return json.dumps(data, indent=2)  # ASCII: whatever a shell makes of it on the way to a file


def as_text(report: Report) -> str:
    """The report for people, without colours."""
    lines = [f"Preflight from {report.vantage}, {report.at:%Y-%m-%d %H:%M} UTC"]
    for target in report.targets:
        lines += ["", target]
        for verdict in report.verdicts:
            if verdict.target == target:
                lines.append(f"  {verdict.status:<8} {verdict.check:<10} {verdict.message}")
    count = len(report.findings)
    if count:
        result = f"{count} finding{'s'[: count != 1]}"
    elif all(map(report.passed, report.targets)):
        result = f"Proven: {PROVES[report.vantage]}"
    else:
        result = "Nothing found, but not everything could be judged"
    lines += ["", f"{result}. {NOT_PROVEN}"]
    return "\n".join(lines)
