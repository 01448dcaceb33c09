from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from linekeeper.notify import compose
from linekeeper.notify.root_cause import CustomerShare
from linekeeper.notify.view import MEMBERS_SHOWN, IncidentView, Links, MemberView
from linekeeper.text import width

OPENED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW = OPENED + timedelta(minutes=42)
MEMBER = MemberView(
    connection_id="0198c2f0-0000-7000-8000-000000000001",
    name="SAP ECC",
    slug="acme-sap-ecc",
    makini_key="k-1",
    provider="sap-ecc",
    health="reauthorization_required",
    kind="reauthorization_required",
    customer="Acme",
    owner="U012ABCDEF",
    critical=True,
    code="AUTHENTICATION_FAILED",
    message="Invalid credentials",
    request_id="req-77",
)
VIEW = IncidentView(
    id="0198c2f0-0000-7000-8000-00000000000a",
    kind="reauthorization_required",
    scope="connection",
    app="default",
    provider="sap-ecc",
    title="Acme · SAP ECC",
    status="open",
    revision=1,
    opened_at=OPENED,
    members=(MEMBER,),
    member_count=1,
)
LINKS = Links(
    ui_url="http://127.0.0.1:4200/",
    deployments={"check-connection": "d-1", "acknowledge": "d-2"},
    run_id="r-1",
)


def texts(blocks: Any) -> list[str]:
    return [
        text["text"] for b in blocks for text in ([b["text"]] if "text" in b else b["elements"])
    ]


def read(view: IncidentView, links: Links = LINKS) -> str:
    return "\n".join(texts(compose.incident(view, now=NOW, links=links).blocks))


def test_a_lost_login_says_what_since_when_whose_and_what_happens_next() -> None:
    message = read(VIEW)
    assert message.startswith(":red_circle: Acme · SAP ECC")
    assert "<!date^1772366400^" in message
    assert "2026-03-01 12:00 UTC" in message
    assert "<@U012ABCDEF>" in message
    assert "critical customer" in message
    assert "`AUTHENTICATION_FAILED` Invalid credentials (request `req-77`)" in message
    assert "The customer has to log in again" in message


def test_the_connect_link_is_named_once_there_is_one() -> None:
    # In observe there never is: nothing may lead to what isn't there.
    assert "The customer has to log in again. A probe" in read(VIEW)
    observed = replace(VIEW, members=(replace(MEMBER, is_observed=True),))
    managed = replace(VIEW, members=(replace(MEMBER, is_observed=False),))
    assert "through a link of yours: in mode observe Linekeeper makes none. A" in read(observed)
    assert "The customer has to log in again. The connect link follows here. A" in read(managed)
    asked = replace(VIEW, members=(replace(MEMBER, is_mailed=False),))
    with_link = read(replace(asked, connect_url="https://lk.example/connect/x"))
    assert "Pass the connect link on to the customer: Linekeeper mails it to nobody" in with_link
    assert "<https://lk.example/connect/x|Connect link for the customer>" in with_link


def test_trouble_of_several_providers_is_not_called_that_of_the_whole_app() -> None:
    """Half of the fleet may be well: only the list itself is the app as a whole."""
    wide = replace(VIEW, kind="unreachable", scope="app", member_count=2, members=(MEMBER, MEMBER))
    assert "connections of several providers fail alike" in read(wide)
    assert "as a whole" not in read(wide)
    assert "The customer's system" not in read(wide), "of several providers it is likelier Makini"
    assert "Makini itself, or the way to it, is likelier to be the cause" in read(wide)
    assert "resolves this incident when they answer" in read(wide)
    theirs = replace(wide, share=CustomerShare("Acme", hit=5, others_hit=0, others=40))
    assert "Makini itself" not in read(theirs), "the systems of others answer"
    unowned = replace(MEMBER, owner=None)
    two = replace(wide, scope="provider", members=(unowned, unowned))
    assert "These systems, or Makini's way to them, do not answer." in read(two)
    assert "no owner is set for the customers" in read(two)
    no_list = replace(VIEW, kind="list_failed", scope="app", member_count=0, members=())
    assert "not being watched" not in read(no_list), "a sweep checks all that have a token"
    assert "Root cause" not in read(no_list), "what an app's webhooks do is not Makini's doing"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unreachable", "resolves this incident when it answers"),
        ("inactive", "credits"),
        ("list_failed", "when the list can be read"),
        ("degraded", "once the cause is gone"),
        ("unknown", "once the evidence is good and agrees"),
        ("disconnected", "when Makini lists the connection again"),
        ("list_truncated", "when the list is complete"),
        ("webhooks_unconfigured", "In Makini's dashboard"),
        ("deletions_held", "Accept or refuse"),
        ("preflight_failed", "the customer's IT"),
        ("never_heard_of", "resolves this incident"),
    ],
)
def test_every_kind_says_what_happens_next_by_itself(kind: str, words: str) -> None:
    assert words in read(replace(VIEW, kind=kind))


def test_links_lead_to_the_run_the_history_and_the_filled_in_forms() -> None:
    message = read(VIEW)
    assert "<http://127.0.0.1:4200/runs/flow-run/r-1|Run>" in message
    assert "<http://127.0.0.1:4200/artifacts/key/connection-acme-sap-ecc|History>" in message
    assert (
        "<http://127.0.0.1:4200/deployments/deployment/d-1/run?parameters="
        "%7B%22connection%22%3A%220198c2f0-0000-7000-8000-000000000001%22%7D|Check now>"
    ) in message
    assert "|Acknowledge>" in message
    assert "Reconnect" not in message, "that form is not deployed"


def test_without_a_ui_there_are_no_links() -> None:
    assert "<http" not in read(VIEW, Links())


def test_acknowledged_is_yellow_and_says_by_whom() -> None:
    message = read(replace(VIEW, acknowledged_at=NOW, acknowledged_by="Petra"))
    assert message.startswith(":large_yellow_circle:")
    assert "by Petra" in message
    assert "|Acknowledge>" not in message


def test_a_snooze_is_shown_until_it_is_over() -> None:
    assert "*Snoozed* until" in read(replace(VIEW, snoozed_until=NOW + timedelta(minutes=1)))
    assert "Snoozed" not in read(replace(VIEW, snoozed_until=NOW - timedelta(minutes=1)))


def test_a_code_that_is_also_the_message_is_said_once() -> None:
    [member] = VIEW.members
    same = replace(member, code="invalid_credentials", message="invalid_credentials")
    assert read(replace(VIEW, members=(same,))).count("invalid_credentials") == 1


def test_a_resolved_incident_does_not_say_that_the_problem_is_there() -> None:
    assert "rejects the stored credentials" in read(VIEW)
    assert "rejects the stored credentials" not in read(
        replace(VIEW, status="resolved", resolved_at=NOW)
    )


def test_nor_does_one_whose_title_was_too_long_for_the_heading() -> None:
    """The title says what was found, and what was found is over."""
    found = "6 messages refused by the product " + "of this connection " * 9
    refused = replace(VIEW, kind="forward_refused", title=f"app default · {found}", summary=found)
    assert f"*Problem* {found.strip()}" in read(refused)
    assert "*Problem*" not in read(replace(refused, status="resolved", resolved_at=NOW))


def test_resolved_is_green_with_its_duration_and_asks_for_nothing() -> None:
    resolved = replace(
        VIEW, status="resolved", resolved_at=OPENED + timedelta(days=1, hours=2, minutes=3)
    )
    message = read(resolved)
    assert message.startswith(":large_green_circle:")
    assert "after 1 d 2 h" in message
    assert "Nothing to do." in message
    assert "Check now" not in message


def test_members_beyond_twenty_are_folded() -> None:
    many = replace(VIEW, scope="provider", members=(MEMBER,) * MEMBERS_SHOWN, member_count=43)
    message = read(many)
    assert "43 connections" in message
    assert message.count("•") == 20
    assert "and 23 more" in message


def test_who_recovered_and_who_has_something_else_is_told_apart() -> None:
    well = replace(MEMBER, left_at=NOW)
    other = replace(MEMBER, kind="unreachable")
    message = read(replace(VIEW, members=(well, other), member_count=2, recovered_count=1))
    assert "2 connections, 1 still affected" in message
    assert "recovered" in message
    assert "Unreachable" in message


def test_a_resolved_outage_speaks_of_the_past() -> None:
    outage = replace(
        VIEW,
        scope="provider",
        members=(MEMBER, MEMBER),
        member_count=2,
        recovered_count=2,
        resolved_at=NOW,
    )
    message = read(outage)
    assert "failed alike" in message
    assert "still affected" not in message


def test_the_plain_text_says_the_same() -> None:
    message = compose.plain(VIEW, now=NOW, links=LINKS)
    assert message.splitlines()[0] == "[OPEN] Acme · SAP ECC — Reauthorization required"
    assert "Since: 2026-03-01 12:00 UTC (42 min)" in message
    assert "AUTHENTICATION_FAILED" in message
    assert "req-77" in message
    assert "*" not in message
    assert "<" not in message


def test_right_to_left_text_is_isolated_and_overrides_are_dropped() -> None:
    message = read(replace(VIEW, title="شركة \u202eالنقل · SAP"))
    assert "\u2068شركة النقل · SAP\u2069" in message
    assert "\u202e" not in message


def test_what_there_is_to_look_at_stands_below_a_heading_that_is_the_first_sentence() -> None:
    forged = replace(
        VIEW,
        kind="webhooks_forged",
        scope="app",
        title="app default · 25 deliveries of Acme · SAP had an invalid signature",
        summary="25 deliveries of Acme · SAP had an invalid signature. Compare the secrets",
        members=(),
        member_count=0,
    )
    assert "Compare the secrets" in read(forged)
    plain = replace(forged, summary="25 deliveries of Acme · SAP had an invalid signature")
    assert "*Problem*" not in read(plain)


def test_a_name_of_500_characters_is_cut() -> None:
    [header, *_] = texts(compose.incident(replace(VIEW, title="x" * 500), now=NOW).blocks)
    assert width(header) == 150
    assert header.endswith("… — Reauthorization required")


@pytest.mark.parametrize("name", ["Acme - UpKeep", "Acme | UpKeep", "Acme · UpKeep", "UpKeep"])
def test_a_member_is_named_as_titles_name_it(name: str) -> None:
    member = replace(MEMBER, name=name, customer="Acme", provider="upkeep")
    assert member.label == "Acme · UpKeep"
