"""Links in messages lead to what an artifact shows, as soon as it was written."""

from linekeeper.notify.channels import remember_artifact
from linekeeper.notify.view import Links
from tests.notify.conftest import Desk

LINKS = Links(ui_url="http://ui")


async def test_a_message_leads_to_the_artifact_itself_once_there_is_one(desk: Desk) -> None:
    incident = await desk.open()
    await desk.deliver(links=LINKS)
    assert "http://ui/artifacts/key/fleet" in str(desk.messages())
    await remember_artifact(desk.store, "fleet", "0badcafe", now=desk.now())
    await desk.change(incident, "changed")
    await desk.deliver(links=LINKS)
    [message] = desk.messages()
    assert "http://ui/artifacts/artifact/0badcafe" in str(message)
    assert "artifacts/key/fleet" not in str(message)
    assert "artifacts/key/connection-" in str(message)
