"""What people call a connection and whose it is. Pure."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from slugify import slugify

from linekeeper.makini import ListedConnection
from linekeeper.text import SEPARATOR

_CUSTOMER_KEYS = ("customer", "customer_name", "company", "company_name", "account", "tenant")
_HOSTING = {
    "cloud": "cloud",
    "saas": "cloud",
    "onpremises": "on-premises",
    "onpremise": "on-premises",
    "onprem": "on-premises",
    "selfhosted": "self-hosted",
}
_TIERS = {"1": "I", "2": "II", "3": "III", "i": "I", "ii": "II", "iii": "III"}
_LEGAL_FORMS = frozenset(
    {"ab", "ag", "and", "aps", "as", "bv", "co", "company", "corp", "corporation", "et", "gmbh"}
    | {"group", "holding", "holdings", "inc", "incorporated", "kg", "kk", "limited", "llc", "ltd"}
    | {"nv", "oy", "plc", "pty", "sa", "sarl", "sas", "se", "spa", "srl", "the", "und"}
)
MAX_NAME = 200
NAMES_KEPT = 32_768
"""How many names are kept in memory as they are shown or compared: a large fleet's."""
_SPELT = 80


def customer_name(listed: ListedConnection) -> str:
    """Whose connection this is: said by `user_metadata`, else the first part of its name."""
    for key in _CUSTOMER_KEYS:
        if value := _lower_keys(listed.metadata).get(key, "").strip():
            return value[:MAX_NAME]
    first = SEPARATOR.split(listed.name.strip())[0].strip()
    return (first or listed.email.partition("@")[2] or listed.key)[:MAX_NAME]


def without_product(name: str, provider: str) -> str:
    """What is left of `Acme Metals SAP ECC` without its product; empty where that says nothing."""
    words, product = name_key(name).split(), name_key(provider).split()
    is_named = len(words) > len(product) > 0 and words[-len(product) :] == product
    return " ".join(words[: -len(product)]) if is_named else ""


def name_key(name: str) -> str:
    """What two spellings of one name have in common: case, spaces and punctuation don't count."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(re.findall(r"[^\W_]+", re.sub(r"[.'’]", "", text))) or text.strip()


def loose_key(name: str) -> str:
    """What names that may mean one customer have in common: legal form and accents don't count."""
    plain = unicodedata.normalize("NFKD", name_key(name))
    words = "".join(char for char in plain if not unicodedata.combining(char)).split()
    return "".join(word for word in words if word not in _LEGAL_FORMS) or "".join(words)


def hosting(metadata: Mapping[str, str]) -> str | None:
    """`cloud`, `on-premises` or `self-hosted`, if the metadata says so."""
    word = re.sub(r"[^a-z]", "", _lower_keys(metadata).get("hosting", "").lower())
    return _HOSTING.get(word)


def tier(metadata: Mapping[str, str]) -> str | None:
    """`I`, `II` or `III`, if the metadata says so."""
    word = _lower_keys(metadata).get("tier", "").lower().removeprefix("tier").strip()
    return _TIERS.get(word)


@lru_cache(maxsize=NAMES_KEPT)
def label(customer: str | None, provider: str, name: str, told_apart_by: str | None) -> str:
    """What people know a connection by: `Customer · System`.

    `told_apart_by` is what else has to be said where the customer has several of the product
    (`customers.distinct_labels`); it is a column of the connection.
    """
    # Makini writes `sap-ecc` as well as `SAP ECC`: where the name has it in people's words, those.
    said = (part for part in SEPARATOR.split(name) if provider and slugify(part) == provider)
    system = next(said, provider) or name
    if told_apart_by is not None:
        system = f"{system} ({told_apart_by})"
    return f"{customer} · {system}" if customer else system


def slug(customer: str | None, provider: str, name: str, key: str, app: str) -> str:
    """A text for keys of artifacts: lower case, digits and dashes; unique by app and key.

    Keys that differ only in case or punctuation get different slugs.
    """
    readable = slugify(label(customer, provider, name, None), max_length=60) or "connection"
    unique = _key_part(key) if app == "default" else f"{_key_part(app)}-{_key_part(key)}"
    return f"{readable}-{unique}"


def _key_part(key: str) -> str:
    if re.fullmatch(r"[a-z0-9]{1,40}", key):
        return key
    spelt = f"x{key.encode().hex()}"
    if len(spelt) <= _SPELT:
        return spelt
    return f"{spelt[: _SPELT - 16]}{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def metadata_digest(metadata: Mapping[str, str]) -> str | None:
    """Return the digest by which equal `user_metadata` is recognised; None where there is none."""
    if not metadata:
        return None
    text = json.dumps(sorted(metadata.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _lower_keys(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key.lower().replace("-", "_").replace(" ", "_"): v for key, v in metadata.items()}
