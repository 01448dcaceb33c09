"""The sandbox's customers have people who look after them, as a file and in its Slack."""

from linekeeper.customers.csv_file import read_customers
from sandbox.people import PEOPLE
from sandbox.slack_text import mrkdwn

from .conftest import Box


async def test_its_customers_are_a_file_to_import(box: Box) -> None:
    answer = await box.http.get("/customers.csv")
    rows, problems = read_customers(answer.content)
    assert not problems
    assert {row.name for row in rows} == {
        connection.customer for connection in box.world.connections.values()
    }
    members = {f"{name} <{member}>" for member, name in PEOPLE.items() if member != "U0OPERATOR"}
    assert {row.owner for row in rows} <= members
    again = await box.http.get("/customers.csv")
    assert again.content == answer.content


async def test_whoever_is_mentioned_is_named_on_its_slack_page() -> None:
    assert mrkdwn("<@U0PETRANOVAK>") == '<span class="mention">@Petra Novak</span>'
    assert mrkdwn("<@U0SOMEBODY>") == '<span class="mention">@U0SOMEBODY</span>'
