"""Who is asked while a login is set up: the customer by mail, operators by a form."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select

import sandbox
from flows.authentication_setup import authentication_setup
from linekeeper.access.signing import load_signer
from linekeeper.authentication_setup.watch import watch
from linekeeper.clock import utcnow
from linekeeper.notify.letters import setup_letter
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import (
    Audit,
    AuthenticationSetup,
    Connection,
    ConnectLink,
    Contact,
    Outbox,
)
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, work
from tests.flows.test_authentication_setup import (
    PUBLIC_URL,
    answered,
    arriving,
    asked,
    box,
    log_in,
    rows,
    rt,
    woken,
)

__all__ = ["box", "rt"]  # fixtures
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]


async def test_a_decision_without_a_name_is_not_taken(
    rt: Runtime, box: sandbox.Served, running: Running, clean_prefect: PrefectServer
) -> None:
    connection = await arriving(rt, box)
    with on(clean_prefect):
        run = await begin(
            running, authentication_setup, connection=connection.makini_key, by="Olaf"
        )
        for number, decision in enumerate(("confirmed", "give up"), start=1):
            run = await answered(running, run, decision=decision, by=" ")
            assert run.name.endswith("waits for the technical requirements"), run.state
            said = await running.client.request(
                "GET", f"/flow_runs/{run.id}/input/suspended-answer-{number}-description"
            )
            assert "not taken:** say who you are" in said.text
    [setup] = await rows(rt, AuthenticationSetup)
    assert (setup.confirmed_at, setup.outcome) == (None, None)
    assert not await rows(rt, Audit, col(Audit.action) == "setup.answered")


async def test_the_customer_is_mailed_and_reminded_until_the_login(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    clean_prefect: PrefectServer,
) -> None:
    monkeypatch.setenv("LINEKEEPER_SMTP_URL", "smtp://127.0.0.1:9")
    monkeypatch.setenv("LINEKEEPER_NOTIFY_CUSTOMERS", "true")
    connection = await arriving(rt, box)
    async with rt.store.write() as session:
        held = await session.scalar(
            select(Contact).where(col(Contact.customer_id) == connection.customer_id)
        )
        assert held is not None  # adoption proposes who logged in
        held.confirmed = True
    with on(clean_prefect):
        await asked(running, connection)
    assert len(await rows(rt, Outbox, col(Outbox.channel) == "email")) == 1
    monday = datetime(2031, 3, 3, 10, tzinfo=UTC)
    async with rt.store.write() as session:
        [setup] = await session.scalars(select(AuthenticationSetup))
        setup.asked_at = monday
        link = await session.get_one(ConnectLink, setup.link_id)
        link.expires_at = setup.look_at = monday + timedelta(days=7)
    for _ in range(2):  # a repeat sends nothing
        assert await watch(rt, now=monday + timedelta(days=1, hours=1)) == 0
    first, reminder = await rows(rt, Outbox, col(Outbox.channel) == "email")
    assert [row.payload["reminder"] for row in (first, reminder)] == [False, True]
    assert f"email:{connection.customer_id}" not in {first.ordering_key, reminder.ordering_key}
    signer = await load_signer(rt.store)
    update = {"notify_customers": True}  # as the runs have it
    configured = (await rt.configuration()).apps
    apps = {name: app.model_copy(update=update) for name, app in configured.items()}
    letter = await setup_letter(rt.store, reminder, signer, PUBLIC_URL, apps)
    assert letter is not None
    assert list(letter.recipients) == ["it@acme.example"]
    assert letter.subject.startswith("Reminder: please connect")
    assert f"{PUBLIC_URL}/connect/" in letter.body
    assert await watch(rt, now=monday + timedelta(days=7)) == 1  # the link has ended
    async with rt.store.write() as session:
        (await session.get_one(ConnectLink, link.id)).used_at = utcnow()
    assert await setup_letter(rt.store, reminder, signer, PUBLIC_URL, apps) is None


async def test_what_cannot_be_set_up_is_refused_and_nothing_is_written(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    clean_prefect: PrefectServer,
) -> None:
    connection = await arriving(rt, box)
    with on(clean_prefect):
        for wrong in (
            {},
            {"connection": "nobody"},
            {"implementation": "nothing"},
            {"connection": connection.makini_key, "implementation": "both"},
        ):
            state = await authentication_setup(**wrong, return_state=True)
            assert state.name == "Refused", state
        monkeypatch.setenv("LINEKEEPER_MAKINI_MODE", "observe")
        state = await authentication_setup(connection=connection.makini_key, return_state=True)
        assert state.name == "Refused", state
    assert not await rows(rt, AuthenticationSetup)
    assert not await rows(rt, ConnectLink)


async def test_what_was_answered_before_the_login_is_kept_though_nothing_is_waited_for(
    running: Running, rt: Runtime, box: sandbox.Served, clean_prefect: PrefectServer
) -> None:
    """No worker took the run between the two; a note needs no decision."""
    connection = await arriving(rt, box)
    with on(clean_prefect):
        run = await asked(running, connection)
        note = {"by": "Olaf", "note": "Their IT is on leave"}
        await running.client.resume_flow_run(run.id, run_input=note)
        [link] = await rows(rt, ConnectLink)
        await log_in(rt, box, link, connection.makini_key)
        run = await work(running, authentication_setup, run.id)
    assert run.name.endswith("connected"), run.state
    [kept] = await rows(rt, Audit, col(Audit.action) == "setup.answered")
    assert (kept.by, kept.detail["note"]) == ("Olaf", "Their IT is on leave")


async def test_a_login_that_makes_a_new_connection_is_the_one_that_was_waited_for(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
) -> None:
    """The set-up was of the one before: its customer was reminded, and the run waited on."""
    one = await arriving(rt, box)
    with on(clean_prefect):
        run = await asked(running, one)
        was = box.world.find(one.makini_key)
        assert was is not None
        box.world.remove(was)
        made = box.world.create(
            name=was.name, email=was.email, provider=was.provider.slug, pending=True
        )
        [link] = await rows(rt, ConnectLink)
        assert await log_in(rt, box, link, made.key) == "done"
        run = await woken(running, rt, settings, run)
    assert run.state is not None
    assert run.state.name == "Completed", run.state
    [heir] = await rows(rt, Connection, col(Connection.makini_key) == made.key)
    [setup] = await rows(rt, AuthenticationSetup)
    assert (setup.outcome, setup.connection_id) == ("connected", heir.id)
