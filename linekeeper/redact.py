"""What may be said of an address or an error: no user name, path, query or value in it.

A token can stand in any part of a URL but its host, and a database quotes the values it was given.
"""

import re
from urllib.parse import urlsplit

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>()]+")
_WITH_HOSTS = {"http", "https", "postgresql", "postgres", "redis", "rediss", "smtp", "smtps"}
_STATEMENT = re.compile(r"\s*\[SQL: .*", re.S)
_QUOTED = (
    re.compile(r"(invalid input for query argument \$\d+).*", re.S),
    re.compile(r"(invalid (?:input syntax|byte sequence)[^:]*):.*", re.S),
    re.compile(r"(value [^:]*out of range)[:\s].*", re.S),
)


def origin(url: str) -> str:
    """Scheme, host and port of `url`: enough to know whose it is, and nothing secret.

    Of a scheme whose host may itself be a token (Apprise has many) only the scheme.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that can't be read"
    if parts.scheme.partition("+")[0] not in _WITH_HOSTS:
        return f"{parts.scheme}://…"
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{port}"


def without_addresses(text: str) -> str:
    """`text` with every URL in it cut down to its origin."""
    return _URL.sub(lambda matched: origin(matched.group()), text)


def without_statement(text: str) -> str:
    """A message, without the SQL statement that SQLAlchemy quotes at its end."""
    return _STATEMENT.sub("", text)


def describe_error(error: BaseException) -> str:
    """The kind of an error and the first line of what it says, without addresses."""
    said = str(error).strip().partition("\n")[0]
    return without_addresses(f"{type(error).__name__}: {said}" if said else type(error).__name__)


def without_values(text: str) -> str:
    """The first line of a database's message, without the values it quotes."""
    line = text.strip().partition("\n")[0]
    for quoted in _QUOTED:
        line = quoted.sub(r"\1", line)
    return line
