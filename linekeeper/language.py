"""The languages that customers are written to in: a file each for the mails and for the pages.

A region's own file, `de-AT.toml`, holds only what differs from its language's, `de.toml`.
"""

import tomllib
from itertools import accumulate
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
MAILS = _HERE / "notify" / "mails"
PAGES = _HERE / "customer_page" / "languages"
ENGLISH = "en"


def languages(folder: Path = MAILS) -> tuple[str, ...]:
    """Those there is a file for in `folder`."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def language(locale: str, folder: Path = MAILS) -> str | None:
    """The nearest language there is a file for, `de` for `de-CH`; None where there is none."""
    known = {name.casefold(): name for name in languages(folder)}
    parts = locale.strip().replace("_", "-").casefold().split("-")
    while parts:
        if (name := known.get("-".join(parts))) is not None:
            return name
        parts.pop()
    return None


def texts(name: str, folder: Path = MAILS) -> dict[str, Any]:
    """What is said in the language `name`: its region's file over its language's."""
    found: dict[str, Any] = {}
    for tag in accumulate(name.split("-"), "{}-{}".format):
        if (path := folder / f"{tag}.toml").exists():
            found |= tomllib.loads(path.read_text(encoding="utf-8"))
    return found
