"""An explanation as people read it: plain text, and Markdown for an artifact. Pure."""

from linekeeper.explain.answer import Explanation, HopState
from linekeeper.explain.words import moment
from linekeeper.markdown import code, table, text

KEY = "explain"
"""The key of the artifact."""
_SIGNS = {
    HopState.done: "✓",
    HopState.missing: "✗",
    HopState.waiting: "…",
    HopState.not_needed: "–",
    HopState.unknown: "?",
}


def plain(explanation: Explanation) -> str:
    """Return the text for the terminal."""
    lines = [explanation.title, ""]
    for hop in explanation.hops:
        at = moment(hop.at) if hop.at is not None else ""
        evidence = "".join(f" ({name} {value})" for name, value in hop.evidence.items())
        lines.append(f"  {_SIGNS[hop.state]} {hop.name.value:<12} {at:<23} {hop.text}{evidence}")
    lines += ["", f"Missing    {missing(explanation)}", f"Problem    {explanation.verdict.summary}"]
    lines += [f"Next step  {explanation.verdict.next_step}"]
    lines += [f"Note       {limit}" for limit in explanation.limits]
    return "\n".join(lines)


def missing(explanation: Explanation) -> str:
    """The missing hop and whose it is, or that none is missing."""
    verdict = explanation.verdict
    if verdict.missing is None:
        return f"no hop ({verdict.cause.value})"
    return f"{verdict.missing.value} (owner: {verdict.owner.value}; {verdict.cause.value})"


def headline(explanation: Explanation) -> str:
    """What it is about and the missing hop, in words, for a run's name."""
    hop = explanation.verdict.missing
    return f"{explanation.title} · {'nothing is missing' if hop is None else f'{hop} is missing'}"


def markdown(explanation: Explanation) -> str:
    """Return the Markdown of the artifact `explain`."""
    rows = [
        [
            _SIGNS[hop.state],
            hop.name.value,
            moment(hop.at) if hop.at is not None else "—",
            text(hop.text, 300),
            " ".join(code(value) for value in hop.evidence.values()) or "—",
        ]
        for hop in explanation.hops
    ]
    return "\n".join(
        [
            f"## {text(explanation.title, 200)}",
            "",
            f"**Missing:** {text(missing(explanation), 200)}",
            "",
            f"**Problem:** {text(explanation.verdict.summary, 600)}",
            "",
            f"**Next step:** {text(explanation.verdict.next_step, 400)}",
            "",
            table(["", "Hop", "At", "What happened", "Evidence"], rows),
            "",
            *(f"- {text(limit, 300)}" for limit in explanation.limits),
        ]
    )
