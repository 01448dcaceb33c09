"""The page of a connect link, which an operator passes on or a customer is mailed. Pure."""

from datetime import datetime

from linekeeper.markdown import text


def connect_link_markdown(for_whom: str, url: str, expires_at: datetime, *notes: str) -> str:
    """The page. `notes` say how the customer gets it, or what came before."""
    said = " ".join(text(note, 300) for note in notes if note)
    return (
        f"# {text(for_whom)}\n\n[{url}]({url})\n\nFor this customer only. Good until "
        f"{expires_at:%Y-%m-%d %H:%M} UTC, or until the login succeeds. {said}".rstrip()
        + "\n"
    )
