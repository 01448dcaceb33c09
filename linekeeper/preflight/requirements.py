"""What a customer's IT has to prepare, known from the plan alone: before any host is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from linekeeper.preflight.network import Network, Port

Hosting = Literal["cloud", "on-premises", "self-hosted"]

VPN = (
    "A VPN tunnel (site to site, IPsec) between your network and Makini",
    "Its peers, proposal and inner addresses, agreed with Makini",
    "Through the tunnel, the ports of the systems behind it and nothing else; for these, firewall "
    "rules name the tunnel's inner addresses in place of Makini's public ones",
)
SELF_HOSTED = (
    "A machine inside your network for Makini, which reaches each system at its port",
    "An address at which our product and Linekeeper reach your Makini, with the certificate it "
    "shows",
    "Time from NTP on all machines",
    "No inbound rule towards the systems: nothing outside needs them",
)
LOGIN = "A technical user in each system, with the permissions for what is to be read and written"
OPEN = {
    "cloud": "Where a system restricts who may log in by address: Makini's addresses, allowed",
    "on-premises": "The ports, open for Makini's addresses and for nobody else",
}
OPEN_DIRECT = (
    "The ports of systems that are reached without the tunnel, open for Makini's addresses and for "
    "nobody else"
)


@dataclass(frozen=True, slots=True)
class SystemPorts:
    """A system or a product, and the ports it usually has."""

    name: str
    ports: Sequence[Port]


@dataclass(frozen=True, slots=True)
class Requirements:
    """What an implementation asks of the customer's network and systems."""

    hosting: Hosting
    vpn: bool
    systems: Sequence[SystemPorts]
    network: Network | None
    """Makini's addresses; None where nothing comes from them."""
    is_direct: bool = True
    """Whether a system is, or may be, reached without the tunnel."""

    @property
    def items(self) -> list[str]:
        """What is to be prepared, one thing each."""
        if self.hosting == "self-hosted":
            return [*SELF_HOSTED, LOGIN]
        opened = OPEN_DIRECT if self.vpn and self.hosting == "on-premises" else OPEN[self.hosting]
        return [*([opened] if self.is_direct else ()), *(VPN if self.vpn else ()), LOGIN]

    def as_json(self) -> dict[str, Any]:
        """Return them as plain JSON values."""
        network = self.network
        return {
            "vpn": self.vpn,
            "items": self.items,
            "ports": [
                {
                    "system": system.name,
                    "ports": [
                        {"port": port.port, "speaks": port.speaks, "use": port.use}
                        for port in system.ports
                    ],
                }
                for system in self.systems
            ],
            "makini": None
            if network is None
            else {
                "dated": network.dated.isoformat(),
                "source": network.source,
                "addresses": list(network.networks),
            },
        }


def requirements(
    hosting: Hosting,
    network: Network,
    *,
    vpn: bool,
    systems: Sequence[str],
    is_direct: bool = True,
) -> Requirements:
    """The requirements of `systems`, or of every known product where none is named."""
    if systems:
        listed = [SystemPorts(name, network.ports_of(name)) for name in systems]
    else:
        listed = [SystemPorts(product.name, product.ports) for product in network.products]
        listed.append(SystemPorts("Any other", network.otherwise))
    sources = None if hosting == "self-hosted" or not is_direct else network
    return Requirements(hosting, vpn, listed, sources, is_direct)
