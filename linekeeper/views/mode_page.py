"""The artifact `mode`: what changing modes would do, or did. Pure."""

from collections.abc import Sequence

from linekeeper.markdown import text


def dry_run_markdown(phrase: str, lines: Sequence[str], refusal: str | None) -> str:
    """The page while nothing was changed: `phrase` confirms it, `refusal` is why it can't be."""
    then = f"Nothing was changed. To do it, run this again with *Confirm* `{phrase}`."
    if refusal is not None:
        then = f"It would be refused: {text(refusal, 1_000)}\n\n{then}"
    return _page(f"Dry run: {phrase}", lines, then)


def done_markdown(phrase: str, lines: Sequence[str], *, by: str) -> str:
    """The page once it was done; `by` is who."""
    return _page(f"Done: {phrase}", lines, f"Done by {text(by)}.")


def _page(title: str, lines: Sequence[str], end: str) -> str:
    shown = "\n".join(f"- {text(line, 500)}" for line in lines)
    return f"# {text(title)}\n\n{shown}\n\n{end}\n"
