"""A customer who has to log in to a lost system and to a new connection gets one mail for both."""

from sqlalchemy import update
from sqlmodel import col

from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.store.tables import Contact, Customer, Outbox
from tests.reconnect.conftest import House
from tests.reconnect.post import listening, text_of
from tests.reconnect.test_ask import Opened, asking, outbox, work
from tests.reconnect.test_connected_anew import succeeded


async def lost_with_a_new_one(here: House) -> None:
    """Six systems of one provider, two of one customer: one of these was connected anew, and then
    the logins of all others were lost; nobody has been written to."""
    for number in range(6):
        name = "Acme · Fiix" if number < 2 else f"C {number} · Fiix"
        here.fleet.world.create(name=name, email="it@c.example", provider="fiix")
    await here.sweep()
    fiix = [one for one in await here.connections() if one.provider == "Fiix"]
    [acme] = {c.id for c in await here.rows(Customer) if c.name == "Acme"}
    ours = [one for one in fiix if one.customer_id == acme]
    async with here.store.write() as session:
        session.add(Contact(customer_id=acme, email="it@acme.example"))
    await succeeded(here, ours[1])
    for connection in fiix:
        if connection.id != ours[1].id:
            await here.control(f"connections/{connection.makini_key}/change-credentials")
    await here.sweep()


async def test_who_has_a_lost_login_and_a_new_connection_gets_one_mail_for_both(
    open_house: Opened,
) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        await lost_with_a_new_one(here)
        await work(here)
        texts = [text_of(mail) for mail in post.mails if mail["To"] == "it@acme.example"]
        assert [text.count("/connect/") for text in texts] == [2]
        await here.sweep()
        await work(here)
        assert sum(mail["To"] == "it@acme.example" for mail in post.mails) == 1


async def second_mail(here: House) -> Outbox:
    """The mail behind the first, which names what it asks for as well."""
    await lost_with_a_new_one(here)
    await advance_due_cases(here.rt)
    mails = await outbox(here, "email")
    [second] = [row for row in mails if ":anew:" in row.dedupe_key]
    [_] = before_it(mails, second)
    return second


def before_it(mails: list[Outbox], second: Outbox) -> list[Outbox]:
    return [row for row in mails if row.ordering_key == second.ordering_key and row != second]


async def test_where_the_mail_that_waited_is_given_up_the_other_one_goes(
    open_house: Opened,
) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        second = await second_mail(here)
        [first] = before_it(await outbox(here, "email"), second)
        async with here.store.write() as session:
            await session.execute(
                update(Outbox).where(col(Outbox.id) == first.id).values(status="dead")
            )
        await work(here)
        texts = [text_of(mail) for mail in post.mails if mail["To"] == "it@acme.example"]
        assert [text.count("/connect/") for text in texts] == [2]
