"""Customers from CSV: what spreadsheets write, what people get wrong, what attackers try."""

import asyncio
import csv
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlmodel import select

from linekeeper.clock import utcnow
from linekeeper.customers import importing
from linekeeper.customers.csv_cells import ContactCell
from linekeeper.customers.csv_file import COLUMNS, MAX_BYTES, CustomerRow, read_customers
from linekeeper.customers.importing import ImportPlan, KnownCustomer, import_customers, plan
from linekeeper.customers.naming import name_key
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Contact, Customer

FULL = """name,contacts,time zone,locale,owner,critical
Acme,"Jo Doe <Jo@Acme.com>; ops@acme.com",europe/berlin,de_DE,Kim,yes
Zeta,,,,,
"""


def _problems(text: str) -> list[str]:
    return [str(problem) for problem in read_customers(text.encode())[1]]


def test_every_column_is_read() -> None:
    rows, problems = read_customers(FULL.encode())
    assert problems == []
    acme, zeta = rows
    assert acme.contacts == (ContactCell("jo@acme.com", "Jo Doe"), ContactCell("ops@acme.com"))
    assert (acme.time_zone, acme.locale, acme.owner) == ("Europe/Berlin", "de-DE", "Kim")
    assert (acme.critical, acme.line) == (True, 2)
    assert (zeta.contacts, zeta.time_zone, zeta.critical) == ((), None, None)


@pytest.mark.parametrize(
    "data",
    [
        FULL.encode("utf-8-sig"),
        FULL.encode("utf-16"),
        FULL.replace("\n", "\r\n").encode(),
        ("sep=,\r\n" + FULL).encode(),
        FULL.replace(",", "\t").encode(),
        (FULL + "\n,,,,,\n\n").encode(),
        FULL.replace("time zone", "Time_Zone").replace("contacts", " E-Mail ").encode(),
    ],
    ids=["mark", "utf-16", "crlf", "sep", "tab", "empty-end", "other-headings"],
)
def test_what_spreadsheets_write_is_read_alike(data: bytes) -> None:
    rows, problems = read_customers(data)
    assert problems == []
    assert [row.name for row in rows] == ["Acme", "Zeta"]
    assert rows[0].contacts[0].email == "jo@acme.com"


def test_semicolons_separate_columns_where_the_heading_does() -> None:
    rows, problems = read_customers(b"name;contacts\nAcme;a@x.org, b@x.org\n")
    assert problems == []
    assert [person.email for person in rows[0].contacts] == ["a@x.org", "b@x.org"]


def test_a_problem_names_line_and_column() -> None:
    text = 'name,contacts,time zone\n"two\nlines",ok@x.org,UTC\nAcme,nobody,Mars\n'
    assert _problems(text) == [
        "line 4, column contacts: 'nobody' is no mail address: write `Name <mail>; Name <mail>` "
        "or `mail`",
        "line 4, column time zone: 'Mars' is no time zone: write it as Europe/Berlin or UTC",
    ]


def test_every_mistake_of_a_line_is_named() -> None:
    text = (
        "name,contacts,time zone,hosting,tier\n"
        'Acme,"jo@acme.com; nobody; Kim <kim@>",Mars,moon,IV\n'
    )
    assert _problems(text) == [
        "line 2, column contacts: 'nobody', 'Kim <kim@>' are no mail addresses: write "
        "`Name <mail>; Name <mail>` or `mail`",
        "line 2, column time zone: 'Mars' is no time zone: write it as Europe/Berlin or UTC",
        "line 2, column hosting: 'moon' is neither cloud, on-premises nor self-hosted",
        "line 2, column tier: 'IV' is neither I, II nor III",
    ]


def test_a_cell_of_many_bad_contacts_names_some() -> None:
    [said] = _problems("name,contacts\nAcme," + ";".join(f"c{n}" for n in range(1000)) + "\n")
    assert "'c0', 'c1', 'c2', 'c3', 'c4' and 995 more are no mail addresses" in said


def test_hosting_and_tier_each_have_a_column() -> None:
    [row] = read_customers(b"name,hosting,tier\nAcme,On premise,Tier 3\n")[0]
    assert (row.hosting, row.tier) == ("on-premises", "III")
    assert [
        said.partition(" is ")[0] for said in _problems("name,hosting,tier\nAcme,III,cloud\n")
    ] == [
        "line 2, column hosting: 'III'",
        "line 2, column tier: 'cloud'",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the file is empty"),
        ("nam,contacts\nAcme,\n", "line 1, column nam: no such column"),
        ("contacts\na@x.org\n", "line 1, column name: the column is missing"),
        ("name,contact,email\n", "line 1, column email: a second column for contacts"),
        ("name\nAcme,surplus\n", "line 2, column 2: 'surplus' is in a column without a name"),
        ("name\nAcme\nacme\n", "line 3, column name: 'acme' is on line 2 already"),
        ('name\n"Acme\n', "line 2: this is not CSV: a quoted cell has no closing quote"),
        ("name,critical\nAcme,perhaps\n", "line 2, column critical: 'perhaps' is neither"),
        ("name,locale\nAcme,../../etc\n", "line 2, column locale"),
        ("name,locale\nAcme,xx-YY-zz\n", "line 2, column locale: 'xx-YY-zz' is no locale"),
        (
            "name,locale\nA,de_at-1996\nB,zh-Hant-TW\nC,es-419\nD,de-AT-CH\n",
            "line 5, column locale",
        ),
        ("name\n" + "x" * 201, "line 2, column name: it has 201 characters"),
        ("name\nAc\x1b[31mme\n", "line 2, column name: it has characters that can't be shown"),
        ("name\nAc\0me\n", "line 2: there is a zero byte"),
    ],
)
def test_what_is_wrong_is_said_plainly(text: str, said: str) -> None:
    problems = _problems(text)
    assert problems[0].startswith(said)


def test_another_encoding_is_refused_with_the_line() -> None:
    (problem,) = read_customers("name\nok\nMüller\n".encode("latin-1"))[1]
    assert str(problem) == "line 3: this is not UTF-8: save the file as “CSV UTF-8”"


def test_a_huge_file_is_refused_unread() -> None:
    assert "10 MiB" in str(read_customers(b"x" * (MAX_BYTES + 1))[1][0])


def test_endless_problems_stop_the_reading() -> None:
    assert len(_problems("name,critical\n" + "Acme,maybe\n" * 5_000)) == 51


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(b"name,contacts\n".__add__)))
@example(b"\xff\xfe\x00")
@example(b"sep=\n")
@example(b'name\n"' + b"x" * 200_000)
def test_any_bytes_give_rows_and_problems_of_one_line(data: bytes) -> None:
    rows, problems = read_customers(data)
    assert all(str(problem).isprintable() for problem in problems)
    assert all(row.name and row.name.isprintable() for row in rows)


_NAMES = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=40)


@given(
    names=st.lists(_NAMES, min_size=1, max_size=8, unique_by=name_key),
    delimiter=st.sampled_from(",;\t"),
)
def test_what_was_written_is_read_again(names: list[str], delimiter: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(COLUMNS)
    writer.writerows([name, "a@x.org", "", "", "", ""] for name in names)
    rows, problems = read_customers(out.getvalue().encode())
    assert problems == []
    assert [row.name for row in rows] == names


def test_an_empty_cell_leaves_what_is_there() -> None:
    have = KnownCustomer("1", "ACME", "Europe/Paris", "fr", "Kim", True, {"jo@acme.com": "Jo"})
    rows, _ = read_customers(b"name,contacts,owner\nAcme,jo@acme.com,Lou\n")
    planned = plan(rows, [have])
    assert planned.create == ()
    assert [(step.values, step.contacts) for step in planned.change] == [({"owner": "Lou"}, ())]


def test_a_language_without_texts_is_taken_and_said() -> None:
    rows, problems = read_customers(b"name,locale\nAcme,fr-CA\nBeta,de-CH\n")
    assert problems == []
    assert [str(step) for step in plan(rows, []).create] == [
        "Acme: locale fr-CA (written to in English: there are texts in de, de-AT, en only)",
        "Beta: locale de-CH",
    ]


async def test_a_file_is_imported_once(store: Store) -> None:
    first = await _import(store, FULL)
    again = await _import(store, FULL)
    assert (len(first.create), first.without_contact) == (2, ("Zeta",))
    assert (again.create, again.change, again.unchanged) == ((), (), 2)
    async with store.read() as session:
        contacts = list(await session.scalars(select(Contact).order_by(Contact.email)))
        audits = list(await session.scalars(select(Audit)))
    assert [(contact.email, contact.name) for contact in contacts] == [
        ("jo@acme.com", "Jo Doe"),
        ("ops@acme.com", ""),
    ]
    assert [(audit.by, audit.detail["created"]) for audit in audits] == [("tester", 2)]


async def test_a_later_file_changes_what_it_says(store: Store) -> None:
    await _import(store, FULL)
    planned = await _import(store, "name,contacts,critical\n acme ,J <jo@acme.com>,no\n")
    assert [str(step) for step in planned.change] == ["Acme: critical no, contact jo@acme.com"]
    async with store.read() as session:
        acme = await session.scalar(select(Customer).where(Customer.name == "Acme"))
        names = set(await session.scalars(select(Contact.name)))
    assert acme is not None
    assert (acme.critical, acme.owner, acme.time_zone) == (False, "Kim", "Europe/Berlin")
    assert names == {"J", ""}


async def test_a_dry_run_writes_nothing(store: Store) -> None:
    planned = await _import(store, FULL, dry_run=True)
    assert len(planned.create) == 2
    async with store.read() as session:
        assert list(await session.scalars(select(Customer))) == []


async def test_one_wrong_line_keeps_the_whole_file_out(store: Store) -> None:
    planned = await _import(store, FULL + "Broken,nobody,,,,\n")
    assert [problem.line for problem in planned.problems] == [4]
    async with store.read() as session:
        assert list(await session.scalars(select(Customer))) == []


async def test_names_that_look_alike_get_slugs_of_their_own(store: Store) -> None:
    await _import(store, "name\nA-B\nÄ-B\n北京\nПекин\n!!!\n???\n")
    async with store.read() as session:
        slugs = list(await session.scalars(select(Customer.slug)))
    assert len(set(slugs)) == 6
    assert {"a-b", "a-b-2", "customer", "customer-2"} <= set(slugs)


async def _import(store: Store, text: str, *, dry_run: bool = False) -> ImportPlan:
    return await import_customers(store, text.encode(), by="tester", now=utcnow(), dry_run=dry_run)


def test_a_cell_of_spaces_is_read_at_once() -> None:
    spaces = " " * 50_000
    for cell in (spaces, f"a{spaces}b", f"{spaces}<{spaces}", f'"{spaces}"{spaces}<x@y.de>'):
        read_customers(f"name,contacts\nA,{cell}\n".encode())
    rows, problems = read_customers(f"name;contacts\nA;{spaces}Jo{spaces}<jo@x.de>\n".encode())
    assert problems == []
    assert rows[0].contacts == (ContactCell("jo@x.de", "Jo"),)


async def test_others_may_write_while_a_file_is_worked_out(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else writes meanwhile is seen: here another adds one of the file's customers."""
    planned: list[int] = []

    def planning(rows: Sequence[CustomerRow], known: Iterable[KnownCustomer]) -> ImportPlan:
        if not planned:
            with ThreadPoolExecutor(1) as thread:  # a connection and a loop of its own
                thread.submit(lambda: asyncio.run(beside())).result(timeout=60)
        planned.append(len(rows))
        return plan(rows, known)

    async def beside() -> None:
        async with Store.open(settings) as other, other.write() as session:
            session.add(Customer(name="Acme", slug="acme", owner="Lee"))

    monkeypatch.setattr(importing, "plan", planning)
    done = await import_customers(store, FULL.encode(), by="me", now=utcnow())
    assert len(planned) == 2
    assert [step.name for step in done.create] == ["Zeta"]
    assert [step.name for step in done.change] == ["Acme"]
    async with store.read() as session:
        customers = {row.name: row for row in await session.scalars(select(Customer))}
        contacts = {row.email for row in await session.scalars(select(Contact))}
    assert customers.keys() == {"Acme", "Zeta"}
    assert customers["Acme"].owner == "Kim"
    assert contacts == {"jo@acme.com", "ops@acme.com"}
