"""The seeded fleet: which customers there are, with which systems, under which names."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

ANCHOR = datetime(2025, 1, 6, tzinfo=UTC)
"""Everything the seed makes is dated from here, so that a restart shows the same past."""

SYNC_EVERY = 900
"""Seconds between two synchronizations of a healthy connection."""


@dataclass(slots=True, frozen=True)
class Provider:
    """One installed product, as Makini lists it among its platforms."""

    slug: str
    name: str
    tier: str
    hosting: tuple[str, ...]
    erp: bool
    undated: frozenset[str] = frozenset()
    """Entities this system reports without `updatedAt`."""


_CLOUD, _ON_PREMISES = ("cloud",), ("on-premises",)
_BOTH = ("cloud", "on-premises")

PROVIDERS = {
    provider.slug: provider
    for provider in (
        Provider("sap-ecc", "SAP ECC", "III", _ON_PREMISES, erp=True),
        Provider("sap-s4hana", "SAP S/4HANA", "III", _CLOUD, erp=True),
        Provider("upkeep", "UpKeep", "I", _CLOUD, erp=False),
        Provider("ibm-maximo", "IBM Maximo", "II", _BOTH, erp=False),
        Provider("infor-eam", "Infor EAM", "II", _BOTH, False, frozenset({"eam/sites"})),
        Provider("oracle-ebs", "Oracle EBS", "II", _ON_PREMISES, erp=True),
        Provider("fiix", "Fiix", "I", _CLOUD, erp=False),
        Provider("emaint", "eMaint", "I", _CLOUD, False, frozenset({"eam/sites"})),
        Provider("maintainx", "MaintainX", "I", _CLOUD, erp=False),
        Provider("limble", "Limble", "I", _CLOUD, erp=False),
    )
}

# Every 24 connections hold at least five of UpKeep and of S/4HANA: enough for an outage of one
# provider to be told from five unrelated troubles.
_MIX = (
    ("upkeep",) * 6
    + ("sap-s4hana",) * 5
    + ("sap-ecc",) * 4
    + ("ibm-maximo",) * 3
    + ("infor-eam", "oracle-ebs", "fiix", "emaint", "maintainx", "limble")
)

_FIRST = """
    Acme Northwind Birch Cobalt Halden Meridian Ironbridge Kestrel Lakeshore Summit Redwood Vulcan
    Harbor Orion Granite Sterling Tidewater Evergreen Blackrock Castor Delta Fairfield Juniper
    Keystone Larkspur Monarch Nordic Osprey Pinnacle Quarry Ridgeline Sable Trident Union Vanguard
    Westfield Yarrow Zenith Anvil Beacon
""".split()  # noqa: SIM905  forty quoted lines would say no more
_SECOND = (
    "Metals",
    "Foods",
    "Cement",
    "Chemicals",
    "Paper",
    "Energy",
    "Foundry",
    "Plastics",
    "Mining",
    "Logistics",
    "Brewing",
    "Glass",
    "Textiles",
    "Automotive",
    "Dairy",
    "Packaging",
)
_REGION = ("Iberia", "Nordics", "Midwest", "Texas", "Polska", "Brasil", "Ontario", "Bavaria")


def seeded(*parts: object) -> random.Random:
    """A random source that depends on nothing but `parts`."""
    return random.Random(":".join(map(str, parts)))  # noqa: S311  repeatable on purpose


@dataclass(slots=True, eq=False)
class Connection:
    """Makini's link to one system, with what can go wrong with it."""

    index: int
    key: str
    id: str
    name: str
    customer: str
    provider: Provider
    hosting: str
    email: str
    user_metadata: Any
    tags: list[str]
    active_word: str
    created_at: datetime
    updated_at: datetime
    connected_at: datetime | None

    source_key: str = ""
    """The key of the connection this one took the place of first: the records are its."""
    key_prefix: int = 0
    """The first two digits of its records' keys; the rest are what they were before."""
    key_shift: int = 0
    """By how much its records' keys differ altogether from those of the one before."""
    pending: bool = False
    hidden: bool = False
    """The list doesn't show it yet."""
    offline: bool = False
    login_ok: bool = True
    active: bool = True
    sync_error: bool = False
    sync_held_at: datetime | None = None
    status_override: str | None = None
    slow_seconds: float = 0.0
    lagging_status: str | None = None
    """What the status goes on saying, whatever became of the connection since."""
    cached_status: bytes = field(default=b"", repr=False)
    cached_slot: int = -1

    @property
    def state(self) -> str:
        """One word for people, worst trouble first."""
        if self.pending:
            return "pending"
        if not self.active:
            return "inactive"
        if not self.login_ok:
            return "login lost"
        return "offline" if self.offline else "healthy"

    @property
    def readable(self) -> bool:
        """Whether Makini gets at the system's records just now."""
        return self.state == "healthy"

    def sync_status(self) -> str:
        """Makini's word for its last synchronization; `fail`: the system refuses the login."""
        if self.lagging_status is not None:
            return self.lagging_status
        if not self.login_ok:
            return "fail"
        if self.sync_error:
            return "error"
        return "inprogress" if self.pending else "done"

    def list_status(self) -> str:
        """The display name that the connection list shows."""
        if self.status_override is not None:
            return self.status_override
        if self.pending:
            return "Pending"
        return self.active_word if self.active else "Inactive"


def make_fleet(seed: int, count: int, *, distinct_ids: bool = False) -> Iterator[Connection]:
    """The first `count` connections of the endless fleet that `seed` stands for."""
    chance = seeded(seed, "fleet")
    names = _customer_names(seed)
    mix: list[str] = []
    index = 0
    while index < count:
        customer = next(names)
        systems: list[str] = []
        for _ in range(2 if chance.random() < 0.2 else 1):
            if not mix:
                mix = list(_MIX)
                chance.shuffle(mix)
            if mix[-1] not in systems:
                systems.append(mix.pop())
        for slug in systems:
            if index < count:
                yield _connection(chance, index, customer, PROVIDERS[slug], distinct_ids)
                index += 1


def describe(user_metadata: dict[str, str], shape: int) -> Any:
    """`user_metadata` in one of the three shapes Makini is seen to use."""
    if shape == 0:
        return orjson.dumps(user_metadata).decode()
    if shape == 1:
        return user_metadata
    return [{"key": key, "value": value} for key, value in user_metadata.items()]


def _connection(
    chance: random.Random, index: int, customer: str, provider: Provider, distinct_ids: bool
) -> Connection:
    key = f"{chance.getrandbits(92):024x}"
    separator = " - " if index % 8 == 6 else " · "
    hosting = chance.choice(provider.hosting)
    created = ANCHOR + timedelta(minutes=chance.randrange(300 * 24 * 60))
    connected = created + timedelta(minutes=chance.randrange(5, 600))
    domain = customer.lower().replace(" ", "-").replace(".", "")
    return Connection(
        index=index,
        key=key,
        id=f"{chance.getrandbits(64):020d}" if distinct_ids else key,
        name=f"{customer}{separator}{provider.name}",
        customer=customer,
        provider=provider,
        hosting=hosting,
        email=f"maintenance@{domain}.example",
        user_metadata=describe(
            {"customer": customer, "hosting": hosting, "tier": provider.tier}, index % 3
        ),
        tags=[f"tier-{provider.tier.lower()}", hosting],
        active_word=("Active", "Active", "Active", "active", "ACTIVE")[index % 5],
        created_at=created,
        updated_at=connected,
        connected_at=connected,
    )


def _customer_names(seed: int) -> Iterator[str]:
    """Company names without end or repetition; the first is always Acme Metals."""
    pairs = [f"{first} {second}" for first in _FIRST for second in _SECOND]
    rest = pairs[1:]
    seeded(seed, "customers").shuffle(rest)
    plain = [pairs[0], *rest]
    yield from plain
    for region in _REGION:
        for name in plain:
            yield f"{name} {region}"
    number = 2
    while True:
        for name in plain:
            yield f"{name} No. {number}"
        number += 1
