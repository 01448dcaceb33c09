"""What the customer's IT is handed: requirements and firewall rules, as Markdown ready to paste.

Whatever a form said becomes text, never markup or shell: hosts and ports come as checked targets,
names are escaped and stay out of every code block.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linekeeper.markdown import literal
from linekeeper.preflight.network import Network
from linekeeper.preflight.requirements import OPEN, Hosting, requirements
from linekeeper.preflight.targets import Target


@dataclass(frozen=True, slots=True)
class HandoverSystem:
    """A system by the name its users know, and where Makini is to reach it."""

    name: str
    target: Target | None = None
    """None: nobody has named its host and port yet."""
    vpn: bool = False
    """Makini reaches it through a VPN tunnel."""
    hosting: Hosting | None = None
    """Where that of the systems differs; None: as the implementation."""


def handover(
    customer: str, systems: Sequence[HandoverSystem], hosting: Hosting, network: Network
) -> str:
    """The hand-over for one implementation. Raises `ValueError` without a system."""
    if not systems:
        raise ValueError("systems: a hand-over needs at least one system")
    tunnelled = [system for system in systems if system.vpn]
    direct = [system for system in systems if not system.vpn]
    asked = requirements(
        hosting,
        network,
        vpn=bool(tunnelled),
        systems=[system.name for system in systems],
        is_direct=bool(direct),
    )
    in_cloud = [system for system in systems if (system.hosting or hosting) == "cloud"]
    items = [OPEN["cloud"], *asked.items] if in_cloud and hosting != "cloud" else asked.items
    needs = "\n".join(f"- {item}" for item in items)
    parts = [
        f"# Technical requirements: {literal(customer)}",
        _wanted(systems, network),
        f"## What to prepare\n\n{needs}",
    ]
    reached = systems if hosting == "cloud" else [s for s in systems if s not in in_cloud]
    named = _named(reached)
    if hosting == "self-hosted":
        parts.append(_self_hosted())
    else:
        if direct:
            parts.append(_sources(network, hosting, direct if tunnelled else ()))
        parts.append(_vpn(tunnelled))
        without_tunnel = _named([system for system in reached if not system.vpn])
        if hosting == "on-premises" and without_tunnel:
            parts.append(_rules(without_tunnel, network))
    if named:
        parts.append(_check([target for _, target in named], hosting))
    return "\n\n".join(parts) + "\n"


_Named = Sequence[tuple[str, Target]]
"""Systems' names, and where each is reached."""


def _named(systems: Sequence[HandoverSystem]) -> _Named:
    return [(system.name, system.target) for system in systems if system.target is not None]


def _wanted(systems: Sequence[HandoverSystem], network: Network) -> str:
    rows = []
    for system in systems:
        through = "VPN tunnel" if system.vpn else "direct"
        if system.target is not None:
            speaks = "TLS" if system.target.tls else "TCP"
            address_cell = f"`{system.target.host}` | {system.target.port} | {speaks}"
        else:
            ports = network.ports_of(system.name)
            usual = "; ".join(f"{literal(port.port)} ({literal(port.use)})" for port in ports)
            spoken = ", ".join(dict.fromkeys(literal(port.speaks) for port in ports))
            address_cell = f"please name it | usually {usual} | {spoken}"
        rows.append(f"| {literal(system.name)} | {address_cell} | {through} |")
    heading = ["| System | Host | Port | Speaks | Reached |", "|---|---|---|---|---|"]
    table = "\n".join([*heading, *rows])
    if all(system.target is not None for system in systems):
        return table
    return (
        f"{table}\n\nPlease name the host and the port of each system: the port is that of your "
        "installation, which may differ from its vendor's usual one."
    )


def _sources(network: Network, hosting: Hosting, only: Sequence[HandoverSystem]) -> str:
    """`only`: the systems reached from these addresses, where a tunnel leads to the others."""
    listed = "\n".join(f"- `{address}`" for address in network.networks)
    ports = f"the ports of {_names(only)} above" if only else "the ports above"
    lead = f"Makini must reach {ports}, and nothing else. " + (
        "If the system restricts who may log in by address, allow"
        if hosting == "cloud"
        else "There it comes from"
        if only
        else "It comes from"
    )
    return (
        f"## Where Makini comes from\n\n{lead}:\n\n{listed}\n\n"
        f"These addresses are of {network.dated} ({literal(network.source)}). "
        "**Verify them with Makini before you change a firewall.**"
    )


def _names(systems: Sequence[HandoverSystem]) -> str:
    return ", ".join(literal(system.name) for system in systems)


def _vpn(tunnelled: Sequence[HandoverSystem]) -> str:
    if not tunnelled:
        return (
            "## VPN\n\nNo VPN is planned. If your policy asks for one, tell us before you begin: "
            "the tunnel then ends where the systems above are reachable, and the firewall rules "
            "apply to the tunnel's inner addresses instead."
        )
    return (
        f"## VPN\n\nMakini reaches {_names(tunnelled)} through a VPN tunnel (site to site, IPsec). "
        "Agree with Makini on the peers, the proposal and the inner addresses. Through the tunnel "
        "only their ports must be reachable, from its inner addresses; no rule for Makini's public "
        "addresses is needed for them."
    )


def _self_hosted() -> str:
    return (
        "## Self-hosted Makini\n\nMakini is installed inside your own infrastructure, so nothing "
        "outside needs access to the systems and no inbound rule is opened.\n\n"
        "- From the machine Makini runs on, each host and port above must be reachable.\n"
        "- The address of your Makini must be reachable from wherever our product and we call it; "
        "tell us its URL, and which certificate it shows.\n"
        "- All machines take their time from NTP."
    )


def _rules(systems: _Named, network: Network) -> str:
    by_host: dict[str, list[int]] = {}
    for _, target in systems:
        ports = by_host.setdefault(target.host, [])
        if target.port not in ports:
            ports.append(target.port)
    all_ports = sorted({target.port for _, target in systems})
    return "\n\n".join(
        [
            "## Firewall rules\n\nExactly the ports above, from Makini's addresses only. "
            "They add permission and take none away. Take the one that fits.",
            "### iptables\n\nOn each system's own host. On a gateway before it, use `FORWARD` "
            "instead of `INPUT` and add the system's address with `-d`.",
            *(_shell(host, _iptables(sorted(ports), network)) for host, ports in by_host.items()),
            "### nftables\n\nInto the chain `input` of the table `inet filter`; put your own "
            "names if they differ.",
            *(_shell(host, _nftables(sorted(ports), network)) for host, ports in by_host.items()),
            "### AWS security group\n\nPut your group's id for `sg-REPLACE`.",
            _fenced("sh", _aws_cli(all_ports, network)),
            "The same as JSON, for a template or `--cli-input-json`:",
            _fenced("json", json.dumps(_aws(all_ports, network), indent=2)),
            "### Any other firewall",
            _generic(systems, network),
        ]
    )


def _shell(host: str, rules: str) -> str:
    return f"For `{host}`:\n\n{_fenced('sh', rules)}"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _iptables(ports: Sequence[int], network: Network) -> str:
    return "\n".join(
        f"iptables -I INPUT -p tcp -s {source} --dport {port} -m conntrack --ctstate NEW "
        '-m comment --comment "Makini" -j ACCEPT'
        for port in ports
        for source in network.networks
    )


def _nftables(ports: Sequence[int], network: Network) -> str:
    sources, doors = ", ".join(network.addresses), ", ".join(map(str, ports))
    return (
        f"nft 'insert rule inet filter input ip saddr {{ {sources} }} "
        f'tcp dport {{ {doors} }} accept comment "Makini"\''
    )


def _aws(ports: Sequence[int], network: Network) -> Mapping[str, object]:
    return {"GroupId": "sg-REPLACE", "IpPermissions": _permissions(ports, network)}


def _permissions(ports: Sequence[int], network: Network) -> list[Mapping[str, object]]:
    ranges = [{"CidrIp": network, "Description": "Makini"} for network in network.networks]
    return [
        {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": ranges}
        for port in ports
    ]


def _aws_cli(ports: Sequence[int], network: Network) -> str:
    permissions = json.dumps(_permissions(ports, network))
    return (
        "aws ec2 authorize-security-group-ingress --group-id sg-REPLACE "
        f"--ip-permissions '{permissions}'"
    )


def _generic(systems: _Named, network: Network) -> str:
    rows = [
        f"| allow | `{source}` | `{target.host}` | tcp {target.port} |"
        for _, target in systems
        for source in network.networks
    ]
    rows = list(dict.fromkeys(rows))
    rows.append("| deny | any other | the hosts above | the ports above, from the internet |")
    return "\n".join(["| Action | From | To | Port |", "|---|---|---|---|", *rows])


def _check(systems: Sequence[Target], hosting: Hosting) -> str:
    targets = " ".join(dict.fromkeys(_quoted(target) for target in systems))
    inside = f"python3 preflight.pyz {targets} --vantage inside --json > inside.json"
    outside = f"python3 preflight.pyz {targets} --vantage outside --json > outside.json"
    lines = [inside] if hosting != "on-premises" else [inside, outside]
    where = (
        "the first inside your network, the second on any machine outside it that isn't allowed: "
        "there an open port is a finding"
        if hosting == "on-premises"
        else "on a machine that must reach the systems"
    )
    return (
        f"## Check it\n\nWith the file `preflight.pyz` that we send you (it needs Python 3.11 and "
        f"installs nothing), run {where}. Then send us the JSON. That Makini reaches the systems "
        f"is verified only by Makini's own connection status.\n\n"
        f"{_fenced('sh', chr(10).join(lines))}"
    )


def _quoted(target: Target) -> str:
    return "'" + str(target).replace("'", "%27") + "'"
