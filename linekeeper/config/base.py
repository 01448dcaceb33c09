"""What all settings have in common."""

import re
from email.utils import parseaddr
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict


class Fields(BaseModel):
    """Fields with their defaults, bounds and words: the core's settings and the block's form."""


class Config(BaseModel):
    """Settings as the core reads them: they don't change under its hands."""

    model_config = ConfigDict(frozen=True, extra="ignore")


A_YEAR_OF_MINUTES, A_YEAR_OF_HOURS, AN_HOUR_OF_SECONDS = 525_600, 8_760, 3_600
"""The longest times that a setting may ask for: what is added to a date has to stay one."""
ForwardForm = Literal["envelope", "original"]
_ADDRESS = re.compile(r"[^\s<>,]+@[^\s<>,@]+")
SLUG = re.compile(r"[\w-]+")
"""A name of letters, digits, - and _ only."""


def require_web_address(url: str) -> str:
    """`url`, or `ValueError` for what is no address of a web server; what it says isn't shown."""
    if not _has_host(url, {"http", "https"}):
        raise ValueError("give a URL that starts with https:// (or http://)")
    return url


def require_mail_server(url: str) -> str:
    """`url`, or `ValueError` for what is no address of a mail server; what it says isn't shown."""
    if not _has_host(url, {"smtp", "smtps"}):
        raise ValueError("give a URL such as smtp://user:password@host:587, or smtps://…")
    return url


def require_sender(text: str) -> tuple[str, str]:
    """The name and the address of `text`, or `ValueError` where there is no address.

    A name may have a comma in it, as a company's has: what follows is no second address.
    """
    name, is_named, address = text.rpartition("<")
    if not is_named:
        name, address = parseaddr(text)
    address = address.strip().removesuffix(">")
    if not _ADDRESS.fullmatch(address):
        raise ValueError("give an address, such as Acme Integrations <it@acme.example>")
    return name, address


def _has_host(url: str, schemes: set[str]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False
