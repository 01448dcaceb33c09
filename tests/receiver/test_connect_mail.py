"""A login of the same company and system under another e-mail: what differs is said."""

from sqlmodel import col, select

from linekeeper.store.tables import Audit
from tests.receiver.test_connect import link_for, through
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def test_the_page_says_that_the_e_mail_is_what_differs(house: House) -> None:
    connection, *_ = await house.connections()
    await house.lose_login(connection)
    was = house.fleet.world.find(connection.makini_key)
    assert was is not None
    colleague = house.fleet.world.create(
        name=was.name, email="zoe@elsewhere.example", provider=was.provider.slug, pending=True
    )
    was.user_metadata = colleague.user_metadata = None
    _, path = await link_for(house, connection)
    answer = await through(house, path, colleague.key)
    assert answer.status_code == 409
    assert "zoe@elsewhere.example" in answer.text
    name, _, domain = connection.email.partition("@")
    assert f"{name[:1]}…@{domain}" in answer.text
    assert connection.email not in answer.text
    assert "tell whoever sent you the link" in answer.text
    async with house.store.read() as session:
        rows = await session.scalars(select(Audit).where(col(Audit.action) == "login.other_system"))
        [row] = rows.all()
    assert f"with zoe@elsewhere.example instead of {connection.email}" in str(row.detail)
