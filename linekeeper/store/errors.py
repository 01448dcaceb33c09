"""Why the database can't be used, and what to do."""


class StoreError(Exception):
    """The database can't be used. `text` is what was found, `fix` what to do; `str()` says both.

    `passes` says that it may be usable in a while, without anybody doing anything here.
    """

    def __init__(self, text: str, fix: str = "", *, passes: bool = False) -> None:
        super().__init__(f"{text}: {fix}" if fix else text)
        self.text = text
        self.fix = fix
        self.passes = passes


_PASSES = ("57P", "53300")
"""SQLSTATEs of PostgreSQL where it starts, ends or recovers, and where it has no place left."""

_KNOWN = (
    (
        ("readonly", "read-only"),
        "the database is read-only",
        "give this user write access to it and its folder",
        False,
    ),
    (
        ("disk is full", "No space left"),
        "the database's disk is full",
        "make room; nothing was written",
        False,
    ),
    (
        ("disk I/O error",),  # also of a full disk, where SQLite can't lay out its journal
        "the database's disk can't be written or read (disk I/O error)",
        "make room on it, or see whether it works; nothing was written",
        False,
    ),
    (
        ("another one is in its place",),
        "",
        "put the first one back; if the other one is meant, stop every part of Linekeeper, remove "
        "the first one's -wal and -shm files, and start the parts again",
        True,
    ),
    (
        ("moved or removed", "unable to open database file"),
        "",
        "put it back, or see whether its disk is mounted",
        True,
    ),
    (
        ("locked",),
        "the database is locked by another process",
        "try again, or find who holds it",
        True,
    ),
)
"""What SQLite says, what it means (empty: that), what to do, and whether it may pass by itself."""


def trouble_of(error: Exception) -> StoreError:
    """A database error in one line with what to do; no values and no statement in it."""
    met = getattr(error, "orig", None) or error
    cause = next(iter(str(met).splitlines()), type(met).__name__)
    takes_nobody = (getattr(met, "sqlstate", None) or "").startswith(_PASSES)
    for words, text, fix, passes in _KNOWN:
        if any(word in cause for word in words):
            return StoreError(text or cause, fix, passes=passes)
    if takes_nobody or isinstance(error, OSError) or "connect" in cause.lower():
        return StoreError(
            f"the database does not answer ({cause})",
            "check LINEKEEPER_DATABASE_URL",
            passes=True,
        )
    return StoreError(f"the database refused: {cause}")
