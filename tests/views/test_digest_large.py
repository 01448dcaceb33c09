"""The digest of a large fleet: nothing of what is ahead is missing, nor is it of another app."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from linekeeper.credits.service import set_bought
from linekeeper.notify.view import Links
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Connection, CreditEntry, Customer, WebhookTrust
from linekeeper.text import width
from linekeeper.views.digest_measures import Life
from linekeeper.views.digest_page import gather, slack_text

NOW = datetime(2026, 3, 5, 7, 0, tzinfo=UTC)
LINKS = Links(ui_url="http://ui")


def _life(number: int, opened: datetime) -> Life:
    title = f"Northern Industrial Holdings {number:03} · SAP S/4HANA Plant {number:03} of Cologne"
    return Life(str(number), "reauthorization_required", title, "normal", opened)


async def test_what_is_ahead_is_in_the_message_however_much_happened(store: Store) -> None:
    day = replace(
        await gather(store, {}, now=NOW),
        lives=[_life(n, NOW - timedelta(hours=2 if n < 40 else 50)) for n in range(80)],
        fleet={"healthy": 900, "unreachable": 100},
        trust={"bad": 60},
        distrusted=[f"Customer {n} · SAP ECC" for n in range(60)],
        running=40,
        slips=[f"Customer {n} · SAP ECC: go-live slips by {n} days" for n in range(40)],
        managed="700 connections managed, 300 observed; " * 6,
        availability="2026-02: 99.1 % healthy; waited for the customer's login 412 h; " * 4,
        credits={"default": -3, "plant": 12},
    )
    said = slack_text(day, LINKS)
    assert width(said) <= 3_000
    assert "Northern Industrial Holdings 000" in said
    shown = said.count("• ")
    assert f"and {40 - shown} more" in said
    for ahead in ("Fleet", "Webhook trust", "Expiry", "Implementations", "Credits"):
        assert f"*{ahead}" in said
    assert "default: -3 available; plant: 12 available" in said
    assert "and 50 more" in said  # whose webhooks can't be relied on
    assert said.endswith("|The whole digest, with charts>")


async def test_credits_are_those_of_the_app_they_were_bought_for(store: Store) -> None:
    await set_bought(store, 10, by="Olaf", app="default", now=NOW)
    async with store.write() as session:
        for app, taken in (("default", 4), ("plant", 100)):
            entry = CreditEntry(app=app, subject=app, delta=-taken, reason="consume", at=NOW, by="")
            session.add(entry)
    day = await gather(store, {}, now=NOW)
    assert "*Credits (estimate)* 6 available" in slack_text(day, LINKS)
    await set_bought(store, 120, by="Olaf", app="plant", now=NOW)
    day = await gather(store, {}, now=NOW)
    assert "*Credits (estimate)* default: 6 available; plant: 20 available" in slack_text(
        day, LINKS
    )


async def test_connections_are_called_as_everywhere_else(store: Store) -> None:
    """Makini's own name of a connection is often the name of its system alone."""
    async with store.write() as session:
        customer = Customer(name="Acme", slug="acme")
        session.add(customer)
        await session.flush()
        connection = Connection(
            id=new_id(),
            app="default",
            makini_key="c1",
            customer_id=customer.id,
            name="Production",
            slug="acme",
            provider="SAP ECC",
            setup="live",
            created_at=NOW,
        )
        session.add(connection)
        await session.flush()
        session.add(
            WebhookTrust(connection_id=connection.id, state="bad", since=NOW, measured_at=NOW)
        )
    day = await gather(store, {}, now=NOW)
    assert "can be relied on: Acme · SAP ECC" in slack_text(day, LINKS)
