"""An explanation as people read it: plain text, and Markdown for an artifact. Pure."""

from linekeeper.explain.answer import Explanation, HopState
from linekeeper.explain.words import moment
from linekeeper.markdown import code, table, text

_SIGNS = {
    HopState.done: "✓",
    HopState.missing: "✗",
    HopState.waiting: "…",
    HopState.not_needed: "–",
    HopState.unknown: "?",
}


def plain(found: Explanation) -> str:
    """Return the text for the terminal."""
    lines = [found.title, ""]
    for hop in found.hops:
        at = moment(hop.at) if hop.at is not None else ""
        evidence = "".join(f" ({name} {value})" for name, value in hop.evidence.items())
        lines.append(f"  {_SIGNS[hop.state]} {hop.name.value:<12} {at:<23} {hop.text}{evidence}")
    lines += ["", f"Missing    {missing(found)}", f"Problem    {found.verdict.summary}"]
    lines += [f"Next step  {found.verdict.next_step}"]
    lines += [f"Note       {limit}" for limit in found.limits]
    return "\n".join(lines)


def missing(found: Explanation) -> str:
    """The missing hop and whose it is, or that none is missing."""
    verdict = found.verdict
    if verdict.missing is None:
        return f"no hop ({verdict.cause.value})"
    return f"{verdict.missing.value} (owner: {verdict.owner.value}; {verdict.cause.value})"


def markdown(found: Explanation) -> str:
    """Return the Markdown of the artifact `explain`."""
    rows = [
        [
            _SIGNS[hop.state],
            hop.name.value,
            moment(hop.at) if hop.at is not None else "—",
            text(hop.text, 300),
            " ".join(code(value) for value in hop.evidence.values()) or "—",
        ]
        for hop in found.hops
    ]
    return "\n".join(
        [
            f"## {text(found.title, 200)}",
            "",
            f"**Missing:** {text(missing(found), 200)}",
            "",
            f"**Problem:** {text(found.verdict.summary, 600)}",
            "",
            f"**Next step:** {text(found.verdict.next_step, 400)}",
            "",
            table(["", "Hop", "At", "What happened", "Evidence"], rows),
            "",
            *(f"- {text(limit, 300)}" for limit in found.limits),
        ]
    )
