"""A message leads to every form, also one that was sent before Prefect had the deployments."""

from typing import Any

from linekeeper.clock import utcnow
from linekeeper.notify.forms import show_with_forms
from linekeeper.notify.view import FORMS, Links
from linekeeper.outbox.queue import Message, enqueue
from tests.notify.conftest import Desk

UI = "http://127.0.0.1:4200"


def links(suffix: str = "") -> Links:
    """Where the forms are."""
    return Links(ui_url=UI, deployments={name: f"id-of-{name}{suffix}" for name in FORMS})


def leads_to(message: dict[str, Any], path: str) -> bool:
    return path in str(message["blocks"])


async def test_a_message_sent_before_the_forms_were_known_is_edited_to_lead_to_them(
    desk: Desk,
) -> None:
    await desk.open()
    await desk.deliver(links=Links(ui_url=UI))
    [message] = desk.messages()
    assert not leads_to(message, "deployments/deployment")
    assert await show_with_forms(desk.store, Links(ui_url=UI), now=utcnow()) == 0

    assert await show_with_forms(desk.store, links(), now=utcnow()) == 1
    await desk.deliver(links=links())
    [message] = desk.messages()
    for name in ("check-connection", "explain", "acknowledge"):
        assert leads_to(message, f"deployments/deployment/id-of-{name}/run"), name
    assert await show_with_forms(desk.store, links(), now=utcnow()) == 0
    assert len(message["replies"]) == 1  # an edit notifies nobody


async def test_in_a_new_prefect_messages_lead_to_its_forms(desk: Desk) -> None:
    await desk.open()
    await desk.deliver(links=links())
    assert await show_with_forms(desk.store, links(), now=utcnow()) == 0
    assert await show_with_forms(desk.store, links("-new"), now=utcnow()) == 1
    await desk.deliver(links=links("-new"))
    [message] = desk.messages()
    assert leads_to(message, "id-of-explain-new/run")


async def test_what_is_over_is_left_as_it_is(desk: Desk) -> None:
    incident_id = await desk.open()
    await desk.deliver()
    await desk.change(
        incident_id, "resolved", "It answers.", status="resolved", resolved_at=desk.now()
    )
    await desk.deliver()
    assert await show_with_forms(desk.store, links(), now=utcnow()) == 0


async def test_a_text_that_names_a_page_leads_to_it(desk: Desk) -> None:
    """Artifacts are not in Prefect's sidebar: a name alone leads nowhere."""
    payload = {"do": "say", "text": "The link is on its page.", "page": "connect-link-1"}
    async with desk.store.write() as session:
        row = Message("slack", "slack:say:1", payload)
        await enqueue(desk.store, session, [row], now=desk.now())
    await desk.deliver(links=links())
    [message] = desk.messages()
    assert leads_to(message, f"{UI}/artifacts/key/connect-link-1")


async def test_what_is_about_the_stream_of_webhooks_leads_to_its_page(desk: Desk) -> None:
    await desk.open(kind="webhooks_dead")
    await desk.deliver(links=links())
    [message] = desk.messages()
    assert leads_to(message, f"{UI}/artifacts/key/webhooks|Webhooks")
    assert not leads_to(message, "artifacts/key/connections")
