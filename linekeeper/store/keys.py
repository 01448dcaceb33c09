"""Record keys as they are stored: the source's own, verbatim wherever a database can hold them."""

from hashlib import sha256

MAX_KEY = 500
"""Characters of a key stored verbatim; PostgreSQL's index takes 2,700 bytes."""


def stored_key(key: str) -> str:
    """`key` itself, or `sha256:` and its hash where no database can hold it.

    That is a key with a NUL or a lone surrogate in it, and one over `MAX_KEY` characters.
    """
    if len(key) <= MAX_KEY and (key.isascii() or not has_surrogate(key)) and "\0" not in key:
        return key
    return "sha256:" + sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def has_surrogate(text: str) -> bool:
    """Whether `text` holds a lone surrogate, which neither a database nor a URL can."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
