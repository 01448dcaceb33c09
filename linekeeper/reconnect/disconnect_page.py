"""The artifact `disconnect`: what disconnecting would do, or did. Pure."""

from linekeeper.markdown import code, text
from linekeeper.reconnect.disconnect import DisconnectPreview

_LINE = 300


def preview_markdown(preview: DisconnectPreview) -> str:
    """The page while nothing was done."""
    key = code(preview.named.makini_key)
    end = f"Nothing was done. To do it, run this again with *Confirm* {key}."
    return f"# Preview: {text(preview.named.label)}\n\n{_lines(preview)}\n\n{end}\n"


def disconnected_markdown(preview: DisconnectPreview, sentence: str, *, by: str) -> str:
    """The page once it was done: `sentence` says what, `by` is who."""
    return f"# {text(sentence, _LINE)}\n\n{_lines(preview)}\n\nDone by {text(by)}.\n"


def _lines(preview: DisconnectPreview) -> str:
    return "\n".join(f"- {text(line, _LINE)}" for line in preview.lines)
