"""The message of a lost login says who brings the customer the link: a mail, or its reader."""

from datetime import timedelta

from sqlalchemy import delete, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.notify import compose
from linekeeper.notify.view import load_views
from linekeeper.store.tables import ConnectLink, Contact

from .conftest import House
from .test_ask import Opened, Post, asking, post, work

__all__ = ["post"]


async def message(house: House) -> str:
    [incident] = [each for each in await house.incidents() if each.resolved_at is None]
    apps = (await house.rt.configuration()).apps
    [view] = (await load_views(house.store, [incident.id], apps)).values()
    return compose.plain(view, now=utcnow())


async def test_where_nobody_is_mailed_it_asks_to_pass_the_link_on(open_house: Opened) -> None:
    house = await open_house()
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    said = await message(house)
    assert "Pass the connect link on to the customer: Linekeeper mails it to nobody" in said


async def test_where_the_customer_is_mailed_it_says_so(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    _, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    assert "through the connect link they are mailed" in await message(house)


async def test_where_the_mail_was_refused_it_asks_to_pass_the_link_on(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    mailbox.refuse = "@"
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    said = await message(house)
    assert "Pass the connect link on to the customer: Linekeeper mails it to nobody" in said


async def test_of_several_it_says_whose_links_are_mailed(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    _, url = post
    house = await asking(open_house, url, connections=24)
    lost = [c for c in await house.connections() if c.provider == "UpKeep"]
    async with house.store.write() as session:
        await session.execute(
            delete(Contact).where(col(Contact.customer_id) == lost[0].customer_id)
        )
    await house.control("providers/upkeep/change-credentials")
    await house.sweep()
    await work(house)
    assert "Pass the connect links on to those who are not mailed theirs" in await message(house)


async def test_a_link_that_has_ended_is_not_offered_any_longer(open_house: Opened) -> None:
    """After the deadline of seven days it answers 410: whoever is called needs a new one."""
    house = await open_house()
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    assert "/connect/" in await message(house)
    async with house.store.write() as session:
        ends_at = utcnow() + timedelta(seconds=20)
        await session.execute(update(ConnectLink).values(expires_at=ends_at))
    said = await message(house)
    assert "The connect link does not work any longer" in said
    assert "/connect/" not in said


async def test_of_several_whose_links_have_ended_it_says_to_send_new_ones(
    open_house: Opened,
) -> None:
    house = await open_house(connections=24)
    await house.control("providers/upkeep/change-credentials")
    await house.sweep()
    assert "The connect links follow here" in await message(house)
    await work(house)
    assert "Pass the connect links on: Linekeeper mails them to nobody" in await message(house)
    ended = update(ConnectLink).values(expires_at=utcnow() + timedelta(seconds=20))
    [link, *_] = await house.rows(ConnectLink)
    async with house.store.write() as session:
        await session.execute(ended.where(col(ConnectLink.id) == link.id))
    assert "Of 1 connection the link does not work any longer" in await message(house)
    async with house.store.write() as session:
        await session.execute(ended)
    said = await message(house)
    assert "The connect links do not work any longer. Call the customers" in said
    assert "follow here" not in said
