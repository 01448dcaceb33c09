"""A mail server that takes nothing: one look's finding holds for the next."""

from linekeeper.outbox.senders.mail import mailing
from linekeeper.outbox.senders.reconnect import advance_due_cases
from tests.reconnect.test_ask import Opened, asking, outbox

NOBODY = "smtp://127.0.0.1:9"


async def test_a_mail_written_while_the_server_is_away_waits_with_the_others(
    open_house: Opened,
) -> None:
    house = await asking(open_house, NOBODY)
    [first, second, *_] = await house.connections()
    async with mailing(house.rt) as dispatcher:
        await house.lose_login(first)
        await advance_due_cases(house.rt)
        await dispatcher.deliver()
        await house.lose_login(second)
        await advance_due_cases(house.rt)
        await dispatcher.deliver()
        [earlier, *later] = await outbox(house, "email")
    assert earlier.attempts == 1
    assert "server" in (earlier.error or "")
    assert later
    assert [row.attempts for row in later] == [0] * len(later)
