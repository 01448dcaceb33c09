"""What systems are called: by Makini, and by people. Pure."""

from collections.abc import Collection, Set

from slugify import slugify


def same_words(words: str, other: str) -> bool:
    """`UpKeep` and `upkeep`, `SAP ECC` and `sap-ecc`: Makini writes both."""
    return bool(words) and slugify(words) == slugify(other)


def is_called_after(system: str, provider: str) -> bool:
    """Whether `system`, as people call it, says `provider`. Pure."""
    return _in_common(words_of(system), words_of(provider)) > 0


def names_another(system: str, provider: str, providers: Collection[str]) -> bool:
    """Whether `system` is called by another of `providers` rather than by `provider`. Pure.

    `SAP ECC North` is `sap-ecc`, and so is `SAP`. A name in which no provider is found, such as
    `Maintenance North`, says nothing of one.
    """
    named = words_of(system)
    if not named:
        return False
    others = max((_in_common(named, words_of(each)) for each in providers), default=0)
    return _in_common(named, words_of(provider)) < others


def _in_common(named: Set[str], words: Set[str]) -> int:
    """How many words the two share, where one of them has all those of the other."""
    return min(len(named), len(words)) if named <= words or words <= named else 0


def words_of(name: str) -> Set[str]:
    """The words of a name, in lower case, whatever stands between them."""
    return set(slugify(name).split("-")) - {""}
