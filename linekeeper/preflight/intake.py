"""Reports that come back from a customer's IT. Whatever the bytes, a report or a clear refusal."""

import codecs
from collections import Counter
from collections.abc import Sequence
from datetime import UTC
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from linekeeper.preflight.order import MAX_TARGETS
from linekeeper.preflight.run import VERSION, PreflightVerdicts
from linekeeper.preflight.targets import MAX_TARGET, TargetError, parse_target
from linekeeper.preflight.verdict import Check, Status, Vantage, Verdict, is_inner

MAX_BYTES = 1024 * 1024

_Target = Annotated[str, Field(max_length=MAX_TARGET)]


class ReportError(ValueError):
    """Not a preflight report; the message says what is wrong and where."""


class _Verdict(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    target: _Target
    vantage: Vantage
    check: Check
    status: Status
    message: Annotated[str, Field(max_length=2000)]
    ends: Annotated[str | None, Field(max_length=40)] = None


class _Report(BaseModel):
    # A later version may add fields; what they'd say isn't used.
    model_config = ConfigDict(extra="ignore", strict=True)

    version: int
    vantage: Vantage
    at: AwareDatetime
    targets: Annotated[list[_Target], Field(min_length=1, max_length=MAX_TARGETS)]
    verdicts: Annotated[list[_Verdict], Field(min_length=1, max_length=MAX_TARGETS * 8)]
    passed: bool | None = None


def parse_report(data: bytes) -> PreflightVerdicts:
    """The report that `report.as_json` wrote, or `ReportError`.

    Every target has a verdict, every verdict a target, all from the report's own vantage: a file
    with its findings cut out is refused, as far as that can be seen. Control characters go.
    PowerShell's `>` writes UTF-16, which is read too.
    """
    if len(data) > MAX_BYTES:
        raise ReportError(f"is over {MAX_BYTES // 1024} KB, so not a preflight report")
    try:
        raw = _Report.model_validate_json(_utf8(data))
    except ValidationError as error:
        printed = "is not what `linekeeper preflight --json` prints; give all of that"
        raise ReportError(f"{printed} ({_first(error)})") from None
    if raw.version != VERSION:
        raise ReportError(
            f"version: {raw.version} isn't {VERSION}; use this Linekeeper's preflight"
        )
    targets = tuple(dict.fromkeys(raw.targets))
    for target in targets:
        try:
            same = str(parse_target(target)) == target
        except TargetError as error:
            raise ReportError(f"targets: {error}") from None
        if not same:
            raise ReportError(f"targets: {target!r} isn't how preflight writes a target")
    judged = {verdict.target for verdict in raw.verdicts}
    if judged != set(targets):
        odd = sorted(judged ^ set(targets))[0]
        raise ReportError(f"verdicts: they and the targets don't match: {odd!r}")
    if any(verdict.vantage != raw.vantage for verdict in raw.verdicts):
        raise ReportError(f"verdicts: one isn't from {raw.vantage}, as the report says")
    _hang_together(targets, raw)
    report = PreflightVerdicts(
        vantage=raw.vantage,
        at=raw.at.astimezone(UTC),
        targets=targets,
        verdicts=tuple(
            Verdict(
                verdict.target,
                verdict.vantage,
                verdict.check,
                verdict.status,
                _line(verdict.message),
                verdict.ends,
            )
            for verdict in raw.verdicts
        ),
    )
    passed = all(map(report.passed, report.targets))
    if raw.passed not in (None, passed):
        raise ReportError(f"passed: says {str(raw.passed).lower()}, and its verdicts don't")
    return report


def _hang_together(targets: Sequence[str], raw: _Report) -> None:
    """Raise `ReportError` where the verdicts on a target can't be those of one check."""
    seen = Counter((verdict.target, verdict.check) for verdict in raw.verdicts)
    for (target, check), times in seen.items():
        if times > 1:
            raise ReportError(f"verdicts: {target} has {times} on {check}")
    for target in targets:
        if not seen[target, "tcp"]:
            raise ReportError(f"verdicts: {target} has none on tcp")
    for verdict in raw.verdicts:
        inner = raw.vantage == "outside" and is_inner(parse_target(verdict.target).host)
        if inner and verdict.check == "tcp" and verdict.status != "skipped":
            raise ReportError(
                f"verdicts: {verdict.target} is an inner address, of which nothing can be told "
                "from outside"
            )


def _utf8(data: bytes) -> bytes:
    """Decode it without a byte-order mark, or from UTF-16 where one says so; rubbish stays
    rubbish."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def _first(error: ValidationError) -> str:
    problem: Any = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in problem["loc"])
    reason = " ".join(str(problem["msg"]).split())[:200]
    return f"{where}: {reason}" if where else reason


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
