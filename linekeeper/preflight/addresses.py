"""The addresses Makini calls from, as data with their date (`makini_addresses.json`)."""

import ipaddress
import json
from dataclasses import dataclass
from datetime import date
from importlib import resources


@dataclass(frozen=True, slots=True)
class MakiniAddresses:
    """Single IPv4 addresses; `dated` is when Makini's documentation said so."""

    dated: date
    source: str
    addresses: tuple[str, ...]

    @property
    def networks(self) -> tuple[str, ...]:
        """Each as a /32."""
        return tuple(f"{address}/32" for address in self.addresses)


def makini_addresses() -> MakiniAddresses:
    """Those shipped with this version; verify them with Makini before relying on them."""
    raw = resources.files(__package__).joinpath("makini_addresses.json").read_text("utf-8")
    data = json.loads(raw)
    return MakiniAddresses(
        dated=date.fromisoformat(data["dated"]),
        source=data["source"],
        addresses=tuple(str(ipaddress.IPv4Address(one)) for one in data["addresses"]),
    )
