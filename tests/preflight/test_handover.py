"""The hand-over: exactly the ports and addresses, and no text from a form that does anything."""

import json
import re
import shlex
import subprocess
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from linekeeper.markdown import literal
from linekeeper.preflight.handover import HandoverSystem, handover
from linekeeper.preflight.network import NetworkError, load_network, usable_network
from linekeeper.preflight.requirements import OPEN
from linekeeper.preflight.targets import parse_target

MAKINI = load_network()
SYSTEMS = [
    HandoverSystem("SAP ECC", parse_target("https://sap.acme.example:44300")),
    HandoverSystem("Maximo", parse_target("10.1.2.3:9443")),
    HandoverSystem("Maximo reports", parse_target("10.1.2.3:9080")),
]
FORWARD = handover("Acme", SYSTEMS, "on-premises", MAKINI)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)\n```", text, re.DOTALL)


def test_the_shipped_addresses_are_those_of_the_documentation_with_their_date():
    assert MAKINI.dated.isoformat() == "2025-05-16"
    assert set(MAKINI.networks) == {
        "15.204.75.108/32",
        "15.204.73.75/32",
        "15.204.77.147/32",
        "148.113.140.236/32",
        "51.79.101.4/32",
    }
    assert "2025-05-16" in FORWARD
    assert "Verify them with Makini" in FORWARD


def test_iptables_allows_each_address_to_each_of_a_hosts_ports_and_nothing_else():
    rules = [
        shlex.split(line)
        for block in blocks(FORWARD, "sh")
        for line in block.splitlines()
        if line.startswith("iptables")
    ]
    pairs = [(rule[rule.index("-s") + 1], rule[rule.index("--dport") + 1]) for rule in rules]
    assert sorted(pairs) == sorted(
        (network, port) for network in MAKINI.networks for port in ("44300", "9443", "9080")
    )


def test_nftables_names_all_addresses_and_the_hosts_ports():
    rules = [block for block in blocks(FORWARD, "sh") if block.startswith("nft ")]
    assert len(rules) == 2
    assert "tcp dport { 44300 }" in rules[0]
    assert "tcp dport { 9080, 9443 }" in rules[1]
    assert all(address in rule for rule in rules for address in MAKINI.addresses)


def test_aws_gets_the_same_from_cli_and_json():
    (whole,) = map(json.loads, blocks(FORWARD, "json"))
    (command,) = (block for block in blocks(FORWARD, "sh") if block.startswith("aws"))
    words = shlex.split(command)
    assert json.loads(words[words.index("--ip-permissions") + 1]) == whole["IpPermissions"]
    assert {verdict["FromPort"] for verdict in whole["IpPermissions"]} == {44300, 9443, 9080}
    for one in whole["IpPermissions"]:
        assert one["FromPort"] == one["ToPort"]
        assert {source["CidrIp"] for source in one["IpRanges"]} == set(MAKINI.networks)


@pytest.mark.parametrize("hosting", ["cloud", "on-premises", "self-hosted"])
@pytest.mark.parametrize("vpn", [False, True])
def test_every_shell_block_is_valid_shell(hosting, vpn):
    systems = [replace(system, vpn=vpn) for system in SYSTEMS]
    text = handover("Acme", systems, hosting, MAKINI)
    for block in blocks(text, "sh"):
        subprocess.run(["bash", "-n"], input=block.encode(), check=True, timeout=20)


def test_a_vpn_and_a_self_hosted_installation_have_texts_of_their_own():
    tunnelled = [replace(SYSTEMS[0], vpn=True), *SYSTEMS[1:]]
    text = handover("A", tunnelled, "on-premises", MAKINI)
    assert "Makini reaches SAP ECC through a VPN tunnel (site to site" in text
    rules = "".join(blocks(text, "sh"))
    assert "44300" not in rules.replace("sap.acme.example:44300", "")
    assert "--dport 9443" in rules
    assert "No VPN is planned" in FORWARD
    own = handover("A", SYSTEMS, "self-hosted", MAKINI)
    assert "no inbound rule is opened" in own
    assert not any(address in own for address in MAKINI.addresses)


def test_h2_before_any_host_is_known_the_ports_addresses_and_the_rest_are_handed_over():
    """H2: technical requirements during planning."""
    systems = [HandoverSystem("SAP ECC", vpn=True), HandoverSystem("Obscure CMMS")]
    for hosting in ("cloud", "on-premises", "self-hosted"):
        text = handover("Acme", systems, hosting, MAKINI)
        assert "443NN" in text
        assert "| Obscure CMMS | please name it | usually 443 (REST or SOAP over HTTPS)" in text
        assert "Please name the host and the port" in text
        assert "preflight.pyz" not in text
        assert "iptables" not in text
    assert "A machine inside your network for Makini" in text
    assert all(
        network in handover("A", systems, "on-premises", MAKINI) for network in MAKINI.networks
    )


def test_h2_a_tunnels_addresses_are_named_only_for_what_is_reached_through_it():
    """H2: what is reached directly is allowed for Makini's public addresses, and only that."""
    tunnelled = HandoverSystem("SAP ECC", SYSTEMS[0].target, vpn=True)
    both = handover("Acme", [tunnelled, SYSTEMS[1]], "on-premises", MAKINI)
    assert "The ports of systems that are reached without the tunnel, open for Makini's" in both
    assert "the ports of the systems behind it and nothing else; for these, firewall" in both
    assert "Makini must reach the ports of Maximo above, and nothing else. There it comes" in both
    alone = handover("Acme", [tunnelled], "on-premises", MAKINI)
    assert "open for Makini's addresses" not in alone
    assert not any(address in alone for address in MAKINI.networks)


def test_h2_ones_own_file_replaces_the_addresses_and_their_date(tmp_path):
    own = tmp_path / "network.json"
    own.write_text('{"dated": "2027-01-02", "source": "mail", "addresses": ["192.0.2.7"]}')
    network = load_network(own)
    assert (network.networks, str(network.dated)) == (("192.0.2.7/32",), "2027-01-02")
    assert network.products == MAKINI.products
    assert "192.0.2.7/32" in handover("Acme", SYSTEMS, "on-premises", network)
    assert "15.204" not in handover("Acme", SYSTEMS, "on-premises", network)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "9" * 20, '{"addresses": ["192.0.2.7"]}', '{"adresses": []}',
        '{"dated": "x", "source": "m", "addresses": ["192.0.2.7"]}',
        '{"dated": "2027-01-02", "source": "m", "addresses": []}',
        '{"dated": "2027-01-02", "source": "m", "addresses": ["example.com"]}',
        '{"products": [{"name": "SAP"}]}', '{"otherwise": [1]}', '{"products": 3}',
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_by_name_and_the_shipped_counts(tmp_path, text):
    own = tmp_path / "network.json"
    own.write_text(text)
    with pytest.raises(NetworkError, match=r"network\.json"):
        load_network(own)
    assert usable_network(own) == MAKINI
    assert usable_network(tmp_path / "missing.json") == MAKINI


def test_without_a_system_there_is_nothing_to_hand_over():
    with pytest.raises(ValueError, match="at least one system"):
        handover("Acme", [], "cloud", MAKINI)


@given(st.text(max_size=60) | st.sampled_from([
    "<script>alert(1)</script>", "![x](https://e.example/x)", "[a](javascript:b)", "`id`", "a|b",
    "```\nrm -rf /\n```", "https://e.example", "<https://e.example>", "&lt;b&gt;", "# h", "x@y.zz",
]))  # fmt: skip
def test_text_from_a_form_stays_text(text):
    page = handover(text, [HandoverSystem(text, SYSTEMS[0].target)], "on-premises", MAKINI)
    harmless = handover("Acme", SYSTEMS[:1], "on-premises", MAKINI)
    for language in ("sh", "json"):
        assert blocks(page, language) == blocks(harmless, language)
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    inline = [inner for token in tokens for inner in token.children or ()]
    kinds = {token.type for token in [*tokens, *inline]}
    assert not kinds & {"html_block", "html_inline", "link_open", "image"}
    heading = next(token for token in tokens if token.type == "inline")
    shown = "".join(token.content for token in heading.children or ())
    seen = (char for char in text if unicodedata.category(char) != "Cf")
    expected = "".join(char if char.isprintable() else " " for char in seen)
    assert shown.replace("\u2060", "").split() == ["Technical", "requirements:", *expected.split()]


def test_escaping_leaves_plain_words_alone():
    assert literal("Acme  Söhne\n2") == "Acme Söhne 2"


def test_a_system_in_the_cloud_beside_one_on_premises_gets_no_firewall_rule() -> None:
    on_premises, *_ = SYSTEMS
    in_cloud = HandoverSystem("UpKeep", parse_target("upkeep.example:443"), hosting="cloud")
    text = handover("A", [on_premises, in_cloud], "on-premises", MAKINI)
    assert OPEN["cloud"] in text
    assert OPEN["on-premises"] in text
    assert on_premises.target is not None
    rules = text.split("## Firewall rules")[1]
    assert on_premises.target.host in rules
    assert "upkeep.example" not in rules
