"""The home page of the Slack app, which comes through Socket Mode."""

from typing import Any

from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from linekeeper.config import Configuration
from linekeeper.consumer.slack_socket import SlackSockets
from linekeeper.store.tables import Customer
from tests.consumer.socket_peer import SocketPeer, until
from tests.consumer.test_slack_socket import house, peer, sockets
from tests.reconnect.conftest import House, open_house

__all__ = ["house", "open_house", "peer", "sockets"]  # fixtures


def opened(member: str, tab: str = "home") -> dict[str, Any]:
    return {"event": {"type": "app_home_opened", "user": member, "tab": tab}}


async def test_whoever_opens_the_home_page_sees_their_own_connections(
    house: House, peer: SocketPeer, sockets: list[SlackSockets]
) -> None:
    await until(lambda: len(peer.connections) == 2)
    lost, *_ = await house.connections()
    async with house.store.write() as session:
        await session.execute(update(Customer).values(owner="Quentin"))
        await session.execute(
            update(Customer)
            .where(col(Customer.id) == lost.customer_id)
            .values(name="A & <!channel> B", owner="Petra Novak <U0PETRA01>")
        )
    await peer.press(opened("U0PETRA01"))
    await peer.press(opened("U0PETRA0"))  # the beginning of hers
    await peer.press(opened("U0NOBODY1", "messages"))
    await until(peer.taken)
    await until(lambda: len(peer.homes) == 2)
    page = str(peer.homes["U0PETRA01"])
    assert peer.homes["U0PETRA01"]["type"] == "home"
    assert "in trouble" in page
    assert "Reauthorization required" in page
    assert "A &amp; &lt;!channel&gt; B" in page
    assert "<https://prefect.example/artifacts/key/fleet|Fleet>" in page
    assert "No customer has you as its owner" in str(peer.homes["U0PETRA0"])


async def test_who_owns_customers_without_a_connection_is_not_told_to_own_none(
    house: House, peer: SocketPeer, sockets: list[SlackSockets]
) -> None:
    await until(lambda: len(peer.connections) == 2)
    async with house.store.write() as session:
        session.add(Customer(name="To come", slug="to-come", owner="Petra Novak <U0PETRA01>"))
    await peer.press(opened("U0PETRA01"))
    await until(lambda: not peer.waiting and len(peer.homes) == 1)
    assert "You own 1 customer, without a connection so far." in str(peer.homes["U0PETRA01"])


async def test_the_home_page_is_shown_with_the_bot_token_that_the_block_has_now(
    house: House, peer: SocketPeer, sockets: list[SlackSockets]
) -> None:
    """The connection kept the settings it was opened with, until the consumer was started anew."""
    await until(lambda: len(peer.connections) == 2)
    before = await house.rt.configuration()
    assert before.slack is not None
    slack = before.slack.model_copy(update={"bot_token": SecretStr("xoxb-2")})

    async def rotated() -> Configuration:
        return before.model_copy(update={"slack": slack})

    house.rt.configuration = rotated
    for one in sockets:
        await one.step()
    await peer.press(opened("U0PETRA01"))
    await until(peer.taken)
    await until(lambda: peer.bots)
    assert set(peer.bots) == {"Bearer xoxb-2"}
