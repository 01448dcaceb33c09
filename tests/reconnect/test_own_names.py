"""A customer with several systems of one product can tell which of them a login is asked for."""

import re

from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.page_links import page_address
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.customers.own_names import OwnSystem, distinct_names
from linekeeper.store.tables import Connection, Incident

from .post import Post, text_of
from .test_ask import Opened, asking, post, work

__all__ = ["post"]


async def test_each_login_that_is_asked_for_says_which_system_it_is_of(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    first, second, third, *_ = await house.connections()
    for lost in (first, second, third):
        await house.control(f"connections/{lost.makini_key}/change-credentials")
    await house.sweep()
    names = {first.id: "Plant North", second.id: "Plant South", third.id: "Internal"}
    async with house.store.write() as session:
        for whose, name in names.items():
            product = "UpKeep" if whose == third.id else "SAP ECC"
            await session.execute(
                update(Connection)
                .where(col(Connection.id) == whose)
                .values(customer_id=first.customer_id, provider=product, name=name)
            )
    assert len(await house.rows(Incident)) > 1  # one each: no root cause of them all
    await work(house)

    north, south = "SAP ECC (Plant North)", "SAP ECC (Plant South)"
    mails = [(str(mail["Subject"]), text_of(mail)) for mail in mailbox.mails]
    for own in (north, south, "UpKeep"):
        assert any(own in subject or own in text for subject, text in mails), mails
    assert not any("Internal" in text for _, text in mails)
    signer = await load_signer(house.store)
    assert first.customer_id is not None
    public = house.rt.settings.resolved_public_url
    page = await page_address(house.store, first.customer_id, signer, public, now=utcnow())
    shown = (await house.http.get(page)).text
    assert f"Log in to {north}" in shown
    assert f"Log in to {south}" in shown
    assert "Log in to UpKeep<" in shown
    headings = set()
    for _, text in mails:
        for path in re.findall(r"/connect/[\w-]+", text):
            answered = (await house.http.get(path)).text
            headings |= set(re.findall(r"<h1>Please log in to (.*?) again</h1>", answered))
    assert headings == {north, south, "UpKeep"}


def test_only_where_the_product_says_too_little_is_the_name_added() -> None:
    systems = [
        OwnSystem("a", "sap-ecc", "Acme · North"),
        OwnSystem("b", "sap-ecc", "Acme · South"),
        OwnSystem("c", "upkeep", "internal"),
        OwnSystem("d", "", "Maximo"),
        OwnSystem("f", "ifs", "Acme"),  # nothing tells them apart
        OwnSystem("e", "ifs", "Acme"),
        OwnSystem("g", "maximo", "Plant"),
        OwnSystem("h", "maximo", "Plant"),
        OwnSystem("i", "maximo", "maximo"),
    ]
    assert distinct_names(systems) == {
        "a": "sap-ecc (Acme · North)",
        "b": "sap-ecc (Acme · South)",
        "c": "upkeep",
        "d": "Maximo",
        "e": "ifs (1/2)",
        "f": "ifs (2/2)",
        "g": "maximo (Plant, 1/2)",
        "h": "maximo (Plant, 2/2)",
        "i": "maximo",
    }
