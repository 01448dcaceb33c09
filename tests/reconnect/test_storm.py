"""500 connections of one provider lose their logins in a minute, and get them back."""

import time

import pytest

from linekeeper.notices.deliver import deliver_due
from linekeeper.store.tables import ConnectLink, Contact, Customer, Reconnect
from tests.reconnect.post import listening
from tests.reconnect.test_ask import Opened, outbox, work
from tests.reconnect.test_kills import told, with_slack

HOW_MANY = 500


@pytest.mark.soak
async def test_500_of_one_provider_are_one_incident_one_run_one_thread_and_a_mail_a_customer(
    open_house: Opened,
) -> None:
    async with listening() as post:
        here = await open_house(
            connections=6,
            smtp_url=post.secret,
            mail_from="Line <line@op.example>",
            notify_customers=True,
        )
        with_slack(here)
        for number in range(HOW_MANY):
            here.fleet.world.create(
                name=f"Customer {number:03} · UpKeep",
                email=f"it@c{number}.example",
                provider="upkeep",
                pending=False,
            )
        await here.sweep()
        async with here.store.write() as session:
            for customer in await here.rows(Customer):
                session.add(Contact(customer_id=customer.id, email=f"it@{customer.slug}.example"))
        began = time.monotonic()
        await here.control("providers/upkeep/change-credentials")
        await here.sweep()
        for _ in range(60):
            await work(here)
            if all(row.status == "sent" for row in await outbox(here, "email")):
                break
        await told(here)
        print(f"{len(post.mails)} mails after {time.monotonic() - began:.1f} s")
        open_ones = [one for one in await here.incidents() if one.resolved_at is None]
        assert len(open_ones) == 1
        assert len(await outbox(here, "run")) == 1
        assert len(here.fleet.world.slack.snapshot()) == 1
        upkeeps = [one for one in await here.connections() if one.provider == "UpKeep"]
        assert len(upkeeps) >= HOW_MANY
        assert len(post.mails) == len({one.customer_id for one in upkeeps})
        assert len(await here.rows(ConnectLink)) == len(upkeeps)

        await here.control("providers/upkeep/restore-credentials")
        await here.sweep()
        await work(here)
        await deliver_due(here.store, await here.rt.configuration(), here.rt.owner)
        assert [one for one in await here.incidents() if one.resolved_at is None] == []
        assert len(await here.rows(Reconnect)) == 1
        assert len(await outbox(here, "run")) <= 2  # to start it, and to wake it
        assert len(here.fleet.world.slack.snapshot()) == 1
