"""What happened before people were notified of an incident is told in its thread."""

from datetime import timedelta

import pytest

from tests.notify.conftest import Desk
from tests.notify.test_evaluate import with_policy

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def test_what_was_suppressed_is_told_also_where_a_change_is_announced_with_it(
    desk: Desk,
) -> None:
    with_policy(desk, first_after_minutes=5)
    incident_id = await desk.open()
    await desk.deliver()
    assert desk.messages() == []
    await desk.change(incident_id, "changed", "It still fails.")
    desk.ahead = timedelta(minutes=6)
    await desk.deliver()
    [message] = desk.messages()
    replies = [reply["text"] for reply in message["replies"]]
    assert "Opened: it failed 3 probes." in replies, replies
    assert sum("It still fails." in reply for reply in replies) == 1
