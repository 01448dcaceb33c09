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


def trouble_of(error: Exception) -> StoreError:
    """A database error in one line with what to do; no values and no statement in it."""
    met = getattr(error, "orig", None) or error
    cause = next(iter(str(met).splitlines()), type(met).__name__)
    takes_nobody = (getattr(met, "sqlstate", None) or "").startswith(_PASSES)
    if "readonly" in cause or "read-only" in cause:
        return StoreError(
            "the database is read-only", "give this user write access to it and its folder"
        )
    if "disk is full" in cause or "No space left" in cause:
        return StoreError("the database's disk is full", "make room; nothing was written")
    if "disk I/O error" in cause:  # also of a full disk, where SQLite can't lay out its journal
        return StoreError(
            "the database's disk can't be written or read (disk I/O error)",
            "make room on it, or see whether it works; nothing was written",
        )
    if "locked" in cause:
        return StoreError(
            "the database is locked by another process",
            "try again, or find who holds it",
            passes=True,
        )
    if takes_nobody or isinstance(error, OSError) or "connect" in cause.lower():
        return StoreError(
            f"the database does not answer ({cause})",
            "check LINEKEEPER_DATABASE_URL",
            passes=True,
        )
    return StoreError(f"the database refused: {cause}")
