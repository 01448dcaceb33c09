"""One customer however its name is spelled; where unsure, people are asked; whom to mail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.adopt import Adoption, adopt
from linekeeper.customers.change import BadChange, CustomerChange, change_customer
from linekeeper.customers.importing import import_customers
from linekeeper.customers.matching import same_customers
from linekeeper.customers.naming import loose_key, name_key
from linekeeper.customers.reachable import with_contacts
from linekeeper.doctor.fleet import customers_named_twice
from linekeeper.implementation.order import Form
from linekeeper.implementation.start import start
from linekeeper.makini import ListedConnection
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Contact, Customer, Implementation


async def take(
    store: Store, *named: tuple[str, str], dry_run: bool = False, separator: str = " - "
) -> Adoption:
    """Adopt a listed connection for each (customer, e-mail)."""
    listed = [
        ListedConnection(
            key=f"k-{customer}-{email}",
            name=f"{customer}{separator}SAP ECC",
            email=email,
            provider="SAP ECC",
            status="Active",
        )
        for customer, email in named
    ]
    async with store.write() as session:
        return await adopt(store, session, "default", listed, now=utcnow(), dry_run=dry_run)


async def customers(store: Store) -> list[str]:
    async with store.read() as session:
        return sorted(await session.scalars(select(col(Customer.name))))


@pytest.mark.parametrize("spelled", ["Acme Metals", "ACME  Metals", "acme-metals", "Acme, Metals."])
async def test_import_before_adopt_makes_one_customer_however_it_is_spelled(
    store: Store, spelled: str
) -> None:
    file = f'name,contacts\n"{spelled}",ann@acme.example\n'.encode()
    await import_customers(store, file, by="Olaf", now=utcnow())
    adoption = await take(store, ("ACME Metals", "bob@acme.example"))
    assert adoption.customers == []
    assert await customers(store) == [" ".join(spelled.split())]
    again = await import_customers(store, b"name,owner\nACME METALS,Kim\n", by="Olaf", now=utcnow())
    assert (len(again.create), len(again.change)) == (0, 1)


@pytest.mark.parametrize("spelled", ["Acme Metals", "ACME  Metals", "acme-metals"])
async def test_a_name_that_makini_ends_with_the_product_means_the_customer_that_was_imported(
    store: Store, spelled: str
) -> None:
    """16.24: the lost login of such a connection was mailed to nobody."""
    file = f'name,contacts\n"{spelled}",ann@acme.example\n'.encode()
    await import_customers(store, file, by="Olaf", now=utcnow())
    adoption = await take(store, ("ACME Metals sap-ecc", "bob@acme.example"), separator=" · ")
    assert (adoption.customers, adoption.alike) == ([], [])
    assert await customers(store) == [" ".join(spelled.split())]


@pytest.mark.parametrize(
    ("imported", "listed", "address"),
    [
        ("Cork Metals GmbH", "Cork Metals SAP ECC", "it@cork.example"),
        ("Dune International", "DI", "ANN@acme.example"),
    ],
)
async def test_a_customer_without_a_system_that_a_sweep_named_otherwise_is_asked_about(
    store: Store, imported: str, listed: str, address: str
) -> None:
    """16.24: only the form `adopt` asked, and only when it came before every sweep."""
    file = f"name,contacts\n{imported},ann@acme.example\nZeta,z@zeta.example\n".encode()
    await import_customers(store, file, by="Olaf", now=utcnow())
    await take(store, (listed, address), ("Other", "o@other.example"))
    async with store.read() as session:
        [asked] = await customers_named_twice(session)
        assert f"{listed} may be {imported}:" in asked.text
        assert await same_customers(session) == [f"{listed} may be {imported}"]
    await change_customer(store, listed, CustomerChange(same_as=imported), by="Olaf", now=utcnow())
    async with store.read() as session:
        assert await customers_named_twice(session) == []
        owners = set(await session.scalars(select(col(Connection.customer_id))))
        assert len(await with_contacts(session, sorted(filter(None, owners)))) == 1


async def test_two_spellings_in_one_list_are_one_customer(store: Store) -> None:
    adoption = await take(store, ("Acme Metals", "a@x.example"), ("ACME METALS", "b@x.example"))
    assert len(adoption.customers) == len(await customers(store)) == 1


async def test_an_import_asks_where_a_name_may_mean_a_customer_that_is_known(store: Store) -> None:
    await take(store, ("Acme Metals", "bob@acme.example"))
    asked = await import_customers(store, b"name\nAcme Metals GmbH\n", by="Olaf", now=utcnow())
    assert "'Acme Metals GmbH' may be 'Acme Metals', which is known" in str(asked.problems[0])
    assert await customers(store) == ["Acme Metals"]
    answered = b"name,new\nAcme Metals GmbH,yes\n"
    assert not (await import_customers(store, answered, by="Olaf", now=utcnow())).problems
    assert await customers(store) == ["Acme Metals", "Acme Metals GmbH"]


async def test_an_adoption_asks_and_the_answer_joins_the_two_for_good(store: Store) -> None:
    now = utcnow()
    file = b"name,contacts\nAcme Metals,ann@acme.example\n"
    await import_customers(store, file, by="Olaf", now=now)
    adoption = await take(store, ("Acme Metals Inc.", "bob@acme.example"))
    assert adoption.alike == ["Acme Metals Inc. may be Acme Metals"]
    form = Form("Acme Metals Inc.", ["UpKeep"], "standard", now.date(), "Olaf", owner="Olaf")
    before = await start(store, form, now=now)
    change = CustomerChange(same_as="acme metals")
    name, _ = await change_customer(store, "Acme Metals Inc.", change, by="Olaf", now=now)
    assert name == "Acme Metals Inc."
    later = await take(store, ("ACME METALS INC", "cid@acme.example"))
    assert (later.customers, later.alike) == ([], [])
    assert await customers(store) == ["Acme Metals"]
    async with store.read() as session:
        owners = set(await session.scalars(select(col(Connection.customer_id))))
        [customer_id] = await session.scalars(select(col(Customer.id)))
        mails = sorted(await session.scalars(select(col(Contact.email))))
        [implementation] = await session.scalars(select(Implementation))
    assert owners == {customer_id}
    assert mails == ["ann@acme.example", "bob@acme.example", "cid@acme.example"]
    assert implementation.customer_id == customer_id
    assert not (await start(store, form, now=now)).new  # the same implementation as before
    assert before.new
    with pytest.raises(BadChange, match="itself"):
        await change_customer(store, "Acme Metals", change, by="Olaf", now=now)


@pytest.mark.parametrize("how", ["named", "all", "file"])
async def test_an_adopted_contact_is_mailed_only_after_somebody_confirmed_it(
    store: Store, how: str
) -> None:
    preview = await take(store, ("Acme", "Bob@acme.example"), dry_run=True)
    assert preview.new
    assert not preview.proposed
    adoption = await take(store, ("Acme", "Bob@acme.example"), ("Zeta", "no address"))
    assert adoption.proposed == ["Acme: bob@acme.example"]

    async def reached() -> bool:
        async with store.read() as session:
            ids = list(await session.scalars(select(col(Customer.id))))
            return bool(await with_contacts(session, ids))

    assert not await reached()
    if how == "file":
        file = b"name,contacts\nAcme,bob@acme.example\n"
        await import_customers(store, file, by="Olaf", now=utcnow())
    else:
        confirmed = CustomerChange(contacts="bob@acme.example" if how == "named" else "")
        confirmed = CustomerChange(contacts=confirmed.contacts, confirm_contacts=how == "all")
        _, changed = await change_customer(store, "Acme", confirmed, by="Olaf", now=utcnow())
        assert changed == ["contact confirmed: bob@acme.example"]
    assert await reached()


@given(st.text(min_size=1, max_size=40))
def test_any_name_has_keys_and_one_spelling_is_its_own(name: str) -> None:
    assert name_key(name) == name_key(f" {name} ") or not name.strip()
    assert name_key(name_key(name)) == name_key(name) or not name_key(name)
    assert loose_key(name) == loose_key(name_key(name))


async def test_a_file_with_one_customer_under_two_of_its_names_is_a_problem(store: Store) -> None:
    await import_customers(store, b"name\nAcme\nAcme Holding\n", by="Olaf", now=utcnow())
    change = CustomerChange(same_as="Acme")
    await change_customer(store, "Acme Holding", change, by="Olaf", now=utcnow())
    file = b"name,contacts,owner\nAcme,ann@a.example,Kim\nAcme Holding,ann@a.example,Lea\n"
    asked = await import_customers(store, file, by="Olaf", now=utcnow())
    assert [(problem.line, problem.column) for problem in asked.problems] == [(3, "name")]
