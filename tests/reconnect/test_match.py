"""Whose login a customer came back with: by id, else by what is known of its system."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.access.likeness import KnownConnection, LinkPurpose
from linekeeper.access.match import match
from linekeeper.customers.naming import metadata_digest
from linekeeper.makini import ConnectionStatus, ListedConnection

ACME = KnownConnection("1", "k1", None, "c1", "Acme", "UpKeep", "it@acme.example", "live")
BOLT = KnownConnection("2", "k2", None, "c2", "Bolt", "Fiix", "it@bolt.example", "live")
LISTED = {
    "k1": ListedConnection("k1", "k1", "Acme · UpKeep", "it@acme.example", provider="UpKeep"),
    "k2": ListedConnection("k2", "k2", "Bolt · Fiix", "it@bolt.example", provider="Fiix"),
}


def status(
    identifier: str, company: str = "Acme", provider: str = "upkeep", email: str = "IT@acme.example"
) -> ConnectionStatus:
    return ConnectionStatus(identifier, company, email, provider, None, "done", None, None, 0.1)


def asked(
    known: KnownConnection | None, system: str = "", customer: str | None = None
) -> LinkPurpose:
    return LinkPurpose(known, customer or (known.customer_id if known else None), system)


@pytest.mark.parametrize(
    ("wanted", "came", "listed", "kind"),
    [
        (ACME, status("k1"), "k1 k2", "same"),
        (ACME, status("k2", "Bolt", "fiix", "it@bolt.example"), "k1 k2", "other"),
        (ACME, status("new"), "k2", "replaces"),  # Makini gave it another id
        (ACME, status("new", "Other company"), "k2", "other"),
        (ACME, status("new", provider="fiix"), "k2", "other"),
        (ACME, status("new", email="somebody@acme.example"), "k2", "other"),
    ],
)
def test_the_login_of_a_connection_is_its_own_or_its_successors_or_another_systems(
    wanted: KnownConnection, came: ConnectionStatus, listed: str, kind: str
) -> None:
    found = match(asked(wanted), came, [LISTED[key] for key in listed.split()], [ACME, BOLT])
    assert found.kind == kind


@pytest.mark.parametrize("company", ["Acme", "Acme - UpKeep", "Acme Metals GmbH"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_successor_is_known_by_what_makini_calls_it_whatever_the_operator_calls_the_customer(
    company: str, listed: bool
) -> None:
    ours = replace(ACME, customer="Acme Metals GmbH", name="Acme - UpKeep", makini_id="k1")
    entry = replace(LISTED["k1"], key="new", id="new", name=ours.name)
    shown = [LISTED["k2"], *([entry] if listed else [])]
    assert match(asked(ours), status("new", company), shown, [ours, BOLT]).kind == "replaces"
    other = match(asked(ours), status("new", "Bolt"), shown, [ours, BOLT])
    assert other.kind == "other"


@pytest.mark.parametrize(
    ("name", "company", "kind"),
    [
        ("Acme UpKeep", "Acme", "replaces"),  # the company, and the provider without a separator
        ("Acme UpKeep", "Acme Upkeepers", "other"),
        ("Plant 7 production", "Acme Metals GmbH", "other"),  # nothing says that they are one
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_successor_of_a_company_that_is_not_said_as_the_list_says_it(
    name: str, company: str, kind: str, listed: bool
) -> None:
    ours = replace(ACME, customer=name, name=name, makini_id="k1")
    entry = replace(LISTED["k1"], key="new", id="new", name="Acme again")
    shown = [LISTED["k2"], *([entry] if listed else [])]
    assert match(asked(ours), status("new", company), shown, [ours, BOLT]).kind == kind
    entry = replace(entry, name=name)  # Makini calls the new one as it called the one before
    found = match(asked(ours), status("new", company), [LISTED["k2"], entry], [ours, BOLT])
    assert found.kind == "replaces"
    stranger = status("new", company, email="it@bolt.example")
    assert match(asked(ours), stranger, [LISTED["k2"], entry], [ours, BOLT]).kind == "other"


def test_what_was_asked_for_and_is_still_there_is_not_replaced_by_a_second_one() -> None:
    second = replace(ACME, id="3", makini_key="k3")
    third = ListedConnection("k3", "k3", "Acme · UpKeep", "it@acme.example", provider="UpKeep")
    found = match(asked(ACME), status("k3"), [*LISTED.values(), third], [ACME, second])
    assert (found.kind, found.known) == ("other", second)


UNSAID = replace(LISTED["k1"], id="")
SECOND = replace(UNSAID, key="k3")


@pytest.mark.parametrize(
    ("ours", "listed", "known", "kind", "key"),
    [
        (ACME, [UNSAID], [], "same", "k1"),
        (replace(ACME, makini_id="k1"), [UNSAID], [], "replaces", None),  # keys are ids here
        (
            ACME,
            [UNSAID, replace(LISTED["k2"], id=""), replace(LISTED["k2"], key="k4", id="")],
            [replace(BOLT, makini_id="k2"), replace(BOLT, id="4", makini_key="k4", makini_id="k4")],
            "replaces",
            None,
        ),
        (
            ACME,
            [UNSAID, replace(LISTED["k2"], id=""), replace(LISTED["k2"], key="k4", id="")],
            [replace(BOLT, makini_id="k2"), replace(BOLT, id="4", makini_key="k4", makini_id="y")],
            "same",
            "k1",
        ),
        (replace(ACME, makini_id="i"), [UNSAID, SECOND], [], "same", "k1"),  # told by a login
        (replace(ACME, makini_id="old"), [UNSAID], [], "same", "k1"),  # the id changed, not the key
        (ACME, [UNSAID, SECOND], [], "replaces", "k3"),  # not known before this login
        (ACME, [UNSAID, SECOND], [replace(ACME, id="3", makini_key="k3")], "other", None),
        (
            ACME,
            [UNSAID, SECOND],
            [replace(ACME, id="3", makini_key="k3", makini_id="x")],
            "same",
            "k1",
        ),
        (ACME, [UNSAID, replace(SECOND, id="x")], [], "same", "k1"),
        (ACME, [LISTED["k2"], SECOND], [], "replaces", "k3"),
        (ACME, [replace(UNSAID, email="x@y.example")], [], "other", None),
    ],
)
def test_where_the_list_says_no_id_the_one_entry_that_fits_is_it(
    ours: KnownConnection,
    listed: list[ListedConnection],
    known: list[KnownConnection],
    kind: str,
    key: str | None,
) -> None:
    found = match(asked(ours), status("i"), listed, [ours, *known])
    assert (found.kind, found.listed and found.listed.key) == (kind, key)


NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("connected_at", "kind"),
    [
        (None, "same"),  # nothing says that it was not
        (NOW - timedelta(days=90), "unlisted"),  # it is not what this login connected
        (NOW - timedelta(seconds=20), "same"),
    ],
)
def test_where_its_id_was_never_learned_the_list_must_not_say_that_another_login_connected_it(
    connected_at: datetime | None, kind: str
) -> None:
    listed = [replace(UNSAID, connected_at=connected_at)]
    for may_lag in (True, False):
        found = match(asked(ACME), status("i"), listed, [ACME], may_lag=may_lag, came_at=NOW)
        assert found.kind == (kind if may_lag else "same")


def test_one_that_ended_under_the_id_does_not_hide_the_one_that_is_listed() -> None:
    ended = replace(ACME, id="9", makini_key="i", setup="disconnected")
    found = match(asked(ACME), status("i"), [UNSAID], [ended, ACME])
    assert (found.kind, found.known) == ("same", ACME)


@pytest.mark.parametrize(
    ("came", "known", "kind"),
    [
        (status("k1"), [ACME, BOLT], "same"),
        (status("k2", "Bolt", "fiix", "it@bolt.example"), [ACME, BOLT], "other"),
        (status("i"), [ACME, BOLT], "same"),
        (status("i", "Other company"), [ACME, BOLT], "other"),
        (status("i"), [ACME, replace(ACME, id="3", makini_key="k3")], "other"),  # either
        (status("i"), [ACME, replace(ACME, id="3", makini_key="k3", makini_id="x")], "same"),
        (status("i"), [replace(ACME, makini_id="k1")], "other"),  # its key is its id
    ],
)
def test_without_the_list_it_is_the_one_of_that_id_or_the_one_asked_for_and_no_successor(
    came: ConnectionStatus, known: list[KnownConnection], kind: str
) -> None:
    assert match(asked(known[0]), came, None, known).kind == kind


def test_one_whose_id_was_not_its_key_is_found_in_a_list_of_others_whose_keys_are_ids() -> None:
    wanted = replace(ACME, makini_id="4711")
    others = [replace(BOLT, id=key, makini_key=key, makini_id=key) for key in ("k2", "k4")]
    shown = [replace(LISTED["k2"], key=each.makini_key, id="") for each in others]
    successor = replace(UNSAID, key="new")
    found = match(asked(wanted), status("4712"), [*shown, successor], [wanted, *others])
    assert (found.kind, found.listed) == ("replaces", successor)


def test_equal_metadata_that_nobody_else_has_makes_a_successor() -> None:
    marked = {"account": "4711"}
    wanted = replace(ACME, metadata=metadata_digest(marked))
    new = ListedConnection("n", "n", "Acme 2 · UpKeep", "jo@x.example", "", provider="UpKeep")
    new = replace(new, metadata=marked)
    came = status("n", "Acme 2", email="jo@x.example")
    assert match(asked(wanted), came, [LISTED["k2"], new], [wanted, BOLT]).kind == "replaces"
    other = replace(LISTED["k2"], metadata=marked)  # it says nothing where others have it, too
    assert match(asked(wanted), came, [other, new], [wanted, BOLT]).kind == "other"
    third = replace(BOLT, metadata=wanted.metadata)
    assert match(asked(wanted), came, [LISTED["k2"], new], [wanted, third]).kind == "other"
    of_other_product = replace(came, provider="fiix")
    assert (
        match(asked(wanted), of_other_product, [LISTED["k2"], new], [wanted, BOLT]).kind == "other"
    )


def test_metadata_says_whose_it_is_before_company_and_mail_do() -> None:
    new = ListedConnection("n", "n", "?", provider="UpKeep", metadata={"customer": "Acme"})
    assert match(asked(ACME), status("n", "Holding", email="x@y.example"), [new], [ACME]).kind == (
        "replaces"
    )
    other = replace(new, metadata={"customer": "Bolt"})
    assert match(asked(ACME), status("n"), [other], [ACME]).kind == "other"


def test_a_link_for_a_new_system_takes_that_system_of_that_customer() -> None:
    link = asked(None, "UpKeep", "c1")
    assert match(link, status("n"), [], [BOLT]).kind == "new"
    assert match(link, status("k1"), [LISTED["k1"]], [ACME]).kind == "known"
    fiix = status("n", provider="fiix")
    assert match(link, fiix, [], [], platforms={"UpKeep", "Fiix"}).kind == "other"
    assert match(link, fiix, [], [ACME]).kind == "other"
    assert match(link, fiix, [], []).kind == "new"  # a name that says no system we know of
    assert match(asked(None, "UpKeep", "c2"), status("k1"), [], [ACME]).kind == "other"


@given(
    st.sampled_from([ACME, BOLT, None]),
    st.text(max_size=8),
    st.text(max_size=8),
    st.text(max_size=8),
    st.lists(st.sampled_from(list(LISTED.values())), max_size=2),
)
def test_whatever_comes_only_the_connection_asked_for_is_ever_the_same(
    wanted: KnownConnection | None,
    identifier: str,
    company: str,
    provider: str,
    listed: list[ListedConnection],
) -> None:
    came = status(identifier, company, provider)
    found = match(asked(wanted), came, listed, [ACME, BOLT])
    if found.kind == "same":
        assert wanted is not None
        assert identifier == wanted.makini_key
    if found.kind == "replaces":
        assert wanted is not None
        assert wanted.makini_key not in {one.key for one in listed} or found.known is None
