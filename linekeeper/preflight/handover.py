"""What the customer's IT is handed: requirements and firewall rules, as Markdown ready to paste.

Whatever a form said becomes text, never markup or shell: hosts and ports come as checked targets,
names are escaped and stay out of every code block.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from linekeeper.preflight.addresses import MakiniAddresses
from linekeeper.preflight.targets import Target

Hosting = Literal["cloud", "on-premises", "self-hosted"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+.!|<>&~=:@\-])")
_ENTITIES = {"<": "&lt;", ">": "&gt;"}
_PLAIN = str.maketrans("[]<>|`*\\!&", "()‹›¦'∗/ǃ＆")
"""What stands in a link's label for what Markdown would take as its own."""


@dataclass(frozen=True, slots=True)
class HandoverSystem:
    """A system by the name its users know, and where Makini is to reach it."""

    name: str
    target: Target


def handover(
    customer: str,
    systems: Sequence[HandoverSystem],
    hosting: Hosting,
    makini: MakiniAddresses,
    *,
    vpn: bool = False,
) -> str:
    """The hand-over for one implementation. Raises `ValueError` without a system."""
    if not systems:
        raise ValueError("systems: a hand-over needs at least one system with its host and port")
    parts = [f"# Technical requirements: {escape(customer)}", _wanted(systems)]
    if hosting == "self-hosted":
        parts.append(_self_hosted())
    else:
        parts.append(_sources(makini, hosting))
        if hosting == "on-premises":
            parts.append(_VPN if vpn else _NO_VPN)
            parts.append(_rules(systems, makini))
    parts.append(_check(systems, hosting))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """One line of plain text, whatever Markdown or HTML it contains; no link comes alive.

    Without numeric entities: Prefect's pages show them as they stand.
    """
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[1], f"\\{found[1]}"), _line(text))


def link(text: str, url: str | None) -> str:
    """`text` as the label of a link, or escaped where there is no `url`.

    Prefect's pages take no backslash in a label: what would be Markdown there is replaced.
    """
    return f"[{_line(text).translate(_PLAIN)}]({url})" if url else escape(text)


def _line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _wanted(systems: Sequence[HandoverSystem]) -> str:
    rows = [
        f"| {escape(one.name)} | `{one.target.host}` | {one.target.port} | "
        f"{'TLS' if one.target.tls else 'TCP'} |"
        for one in systems
    ]
    return "\n".join(["| System | Host | Port | Speaks |", "|---|---|---|---|", *rows])


def _sources(makini: MakiniAddresses, hosting: Hosting) -> str:
    listed = "\n".join(f"- `{address}/32`" for address in makini.addresses)
    lead = (
        "Makini must reach the ports above, and nothing else. If the system restricts who may "
        "log in by address, allow"
        if hosting == "cloud"
        else "Makini must reach the ports above, and nothing else. It comes from"
    )
    return (
        f"## Where Makini comes from\n\n{lead}:\n\n{listed}\n\n"
        f"These addresses are of {makini.dated} ({makini.source}). "
        "**Verify them with Makini before you change a firewall.**"
    )


_NO_VPN = (
    "## VPN\n\nNo VPN is planned. If your policy asks for one, tell us before you begin: the "
    "tunnel then ends where the systems above are reachable, and the firewall rules apply to the "
    "tunnel's inner addresses instead."
)
_VPN = (
    "## VPN\n\nThe connection runs through a VPN tunnel (site to site, IPsec). Agree with Makini "
    "on the peers, the proposal and the inner addresses. Through the tunnel only the ports above "
    "must be reachable; where the rules below name Makini's public addresses, put the tunnel's "
    "inner addresses."
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


def _rules(systems: Sequence[HandoverSystem], makini: MakiniAddresses) -> str:
    by_host: dict[str, list[int]] = {}
    for one in systems:
        ports = by_host.setdefault(one.target.host, [])
        if one.target.port not in ports:
            ports.append(one.target.port)
    all_ports = sorted({one.target.port for one in systems})
    return "\n\n".join(
        [
            "## Firewall rules\n\nExactly the ports above, from Makini's addresses only. "
            "They add permission and take none away. Take the one that fits.",
            "### iptables\n\nOn each system's own host. On a gateway before it, use `FORWARD` "
            "instead of `INPUT` and add the system's address with `-d`.",
            *(_shell(host, _iptables(sorted(ports), makini)) for host, ports in by_host.items()),
            "### nftables\n\nInto the chain `input` of the table `inet filter`; put your own "
            "names if they differ.",
            *(_shell(host, _nftables(sorted(ports), makini)) for host, ports in by_host.items()),
            "### AWS security group\n\nPut your group's id for `sg-REPLACE`.",
            _fenced("sh", _aws_cli(all_ports, makini)),
            "The same as JSON, for a template or `--cli-input-json`:",
            _fenced("json", json.dumps(_aws(all_ports, makini), indent=2)),
            "### Any other firewall",
            _generic(systems, makini),
        ]
    )


def _shell(host: str, rules: str) -> str:
    return f"For `{host}`:\n\n{_fenced('sh', rules)}"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _iptables(ports: Sequence[int], makini: MakiniAddresses) -> str:
    return "\n".join(
        f"iptables -I INPUT -p tcp -s {source} --dport {port} -m conntrack --ctstate NEW "
        '-m comment --comment "Makini" -j ACCEPT'
        for port in ports
        for source in makini.networks
    )


def _nftables(ports: Sequence[int], makini: MakiniAddresses) -> str:
    sources, doors = ", ".join(makini.addresses), ", ".join(map(str, ports))
    return (
        f"nft 'insert rule inet filter input ip saddr {{ {sources} }} "
        f'tcp dport {{ {doors} }} accept comment "Makini"\''
    )


def _aws(ports: Sequence[int], makini: MakiniAddresses) -> Mapping[str, object]:
    return {"GroupId": "sg-REPLACE", "IpPermissions": _permissions(ports, makini)}


def _permissions(ports: Sequence[int], makini: MakiniAddresses) -> list[Mapping[str, object]]:
    ranges = [{"CidrIp": network, "Description": "Makini"} for network in makini.networks]
    return [
        {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": ranges}
        for port in ports
    ]


def _aws_cli(ports: Sequence[int], makini: MakiniAddresses) -> str:
    permissions = json.dumps(_permissions(ports, makini))
    return (
        "aws ec2 authorize-security-group-ingress --group-id sg-REPLACE "
        f"--ip-permissions '{permissions}'"
    )


def _generic(systems: Sequence[HandoverSystem], makini: MakiniAddresses) -> str:
    rows = [
        f"| allow | `{network}` | `{one.target.host}` | tcp {one.target.port} |"
        for one in systems
        for network in makini.networks
    ]
    rows = list(dict.fromkeys(rows))
    rows.append("| deny | any other | the hosts above | the ports above, from the internet |")
    return "\n".join(["| Action | From | To | Port |", "|---|---|---|---|", *rows])


def _check(systems: Sequence[HandoverSystem], hosting: Hosting) -> str:
    targets = " ".join(dict.fromkeys(_quoted(one.target) for one in systems))
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
        f"is proven only by Makini's own connection status.\n\n"
        f"{_fenced('sh', chr(10).join(lines))}"
    )


def _quoted(target: Target) -> str:
    return "'" + str(target).replace("'", "%27") + "'"
