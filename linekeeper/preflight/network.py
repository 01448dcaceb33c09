"""What a network must let through, as data with its date (`network.json`).

The shipped file can be replaced, as a whole or in part, by one of one's own that
`LINEKEEPER_NETWORK_FILE` names: when Makini announces other addresses, nothing is installed anew.
"""

import ipaddress
import json
import logging
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 20
_log = logging.getLogger(__name__)


class NetworkError(ValueError):
    """The file can't be used; the message names it, and says why."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a product by its vendor's convention, such as `443NN`."""

    port: str
    speaks: str
    use: str


@dataclass(frozen=True, slots=True)
class Product:
    """A kind of system, known by a part of its name."""

    name: str
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """Makini's single IPv4 addresses (`dated` is when its documentation said so), and the ports of
    products."""

    dated: date
    source: str
    addresses: tuple[str, ...]
    products: tuple[Product, ...]
    otherwise: tuple[Port, ...]
    """The ports of a product that isn't listed."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Each address as a /32."""
        return tuple(f"{address}/32" for address in self.addresses)

    def product_of(self, system: str) -> Product | None:
        """The product that a system's name speaks of."""
        words = system.casefold()
        return next((known for known in self.products if known.name.casefold() in words), None)

    def ports_of(self, system: str) -> tuple[Port, ...]:
        """The usual ports of a system, by its name."""
        product = self.product_of(system)
        return self.otherwise if product is None else product.ports


def load_network(own: Path | None = None) -> Network:
    """The shipped data, with what the file `own` says in its place. Raises `NetworkError`."""
    shipped = resources.files(__package__).joinpath("network.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(shipped)
    if own is None:
        return _network(data)
    try:
        with own.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        given = json.loads(text[:MAX_BYTES])
    except OSError as error:
        raise NetworkError(f"{own} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise NetworkError(f"{own} is not JSON") from None
    if not isinstance(given, dict):
        raise NetworkError(f"{own} must be an object with dated, source and addresses")
    if unknown := sorted(set(given) - set(data)):
        raise NetworkError(f"{own} has {unknown[0]!r}; it may have {', '.join(data)}")
    if "addresses" in given and not {"dated", "source"} <= set(given):
        raise NetworkError(f"{own} has addresses, so it must say dated and source as well")
    try:
        return _network({**data, **given})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NetworkError(f"{own}: {type(error).__name__}: {str(error)[:120]}") from None


def usable_network(own: Path | None) -> Network:
    """Load like `load_network`; where one's own file can't be used, the log says so and the
    shipped data counts."""
    try:
        return load_network(own)
    except NetworkError as error:
        _log.warning("LINEKEEPER_NETWORK_FILE: %s; the shipped addresses count", error)
        return load_network()


def _network(data: dict[str, Any]) -> Network:
    addresses = tuple(str(ipaddress.IPv4Address(address)) for address in data["addresses"])
    if not addresses:
        raise ValueError("addresses is empty")
    return Network(
        dated=date.fromisoformat(data["dated"]),
        source=" ".join(str(data["source"]).split())[:200],
        addresses=addresses,
        products=tuple(
            Product(_line(product["name"]), _ports(product["ports"]))
            for product in data["products"]
        ),
        otherwise=_ports(data["otherwise"]),
    )


def _ports(given: list[dict[str, Any]]) -> tuple[Port, ...]:
    return tuple(
        Port(_line(port["port"]), _line(port["speaks"]), _line(port["use"])) for port in given
    )


def _line(value: Any) -> str:
    text = " ".join(str(value).split())
    if not text or len(text) > 200 or not text.isprintable():
        raise ValueError(f"{text[:40]!r} must be one line of at most 200 characters")
    return text
