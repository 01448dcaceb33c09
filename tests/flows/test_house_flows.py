"""housekeeping, import-customers and doctor, run as Prefect runs them."""

import asyncio
from datetime import timedelta

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import select

from flows.doctor import doctor
from flows.explain import explain
from flows.housekeeping import housekeeping
from flows.import_customers import import_customers
from flows.verify_account import verify_account
from linekeeper.clock import utcnow
from linekeeper.config import SlackConfig
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Audit, Connection, Customer, Outbox
from linekeeper.watch.alerts import Alert, record_alert
from sandbox import Settings as SandboxSettings
from sandbox import serving
from tasks.housekeeping import prune_runs
from tasks.prefect_adapter.names import tag
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

CSV = "name,contacts,owner\nAcme,Ann <ann@acme.example>,Petra\nBolt,bob@bolt.example,\n"


async def ended(state: State[object]) -> tuple[str, str]:
    """A state's name and message."""
    return state.name or "", state.message or ""


async def test_a_test_message_arrives_in_slack(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    box = SandboxSettings(port=0, connections=0, records_per_connection=0)
    async with serving(box) as sandbox:
        slack = SlackConfig(
            bot_token=SecretStr(box.slack_token),
            channel="#linekeeper",
            api_url=f"{sandbox.url}/slack/api/",
        )
        await save_blocks(store, Blocks(slack=slack), now=utcnow())
        with on(clean_prefect):
            state = await doctor("Hello from the test", return_state=True)
        assert await ended(state) == ("Completed", "Sent to #linekeeper")
        assert "Hello from the test" in str(sandbox.world.slack.snapshot())
    assert (await running.last()).name == "doctor · test message sent"


async def test_without_slack_a_test_message_says_so_and_shows_the_message(
    running: Running, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        state = await doctor("Hello", return_state=True)
    name, message = await ended(state)
    assert name == "Completed"
    assert "not configured" in message
    assert (await running.last()).name == "doctor · Slack is not configured"


async def test_a_test_message_slack_refuses_fails_at_once_and_says_why(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    box = SandboxSettings(port=0, connections=0, records_per_connection=0)
    async with serving(box) as sandbox:
        slack = SlackConfig(
            bot_token=SecretStr("xoxb-wrong"),
            channel="#linekeeper",
            api_url=f"{sandbox.url}/slack/api/",
        )
        await save_blocks(store, Blocks(slack=slack), now=utcnow())
        with on(clean_prefect):
            state = await doctor("Hello", return_state=True)
    name, message = await ended(state)
    assert name == "Failed"
    assert "invalid_auth: put a valid bot token" in message
    run = await running.last()
    [task] = await running.client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    )
    assert task.run_count == 1


async def test_housekeeping_removes_what_was_delivered_long_ago_and_nothing_that_waits(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    now = utcnow()
    async with store.write() as session:
        messages = [Message("event", key) for key in ("old", "new", "waiting", "dead")]
        await enqueue(store, session, messages, now=now - timedelta(days=40))
        for key, status, days in (("old", "sent", 8), ("new", "sent", 6), ("dead", "dead", 39)):
            await session.execute(
                update(Outbox)
                .where(Outbox.dedupe_key == key)
                .values(status=status, settled_at=now - timedelta(days=days))
            )
    with on(clean_prefect):
        dry = await housekeeping(dry_run=True, return_state=True)
        assert (await ended(dry))[1].startswith("Would remove 1 outbox row")
        wet = await housekeeping(return_state=True)
        assert (await ended(wet))[1].startswith("Removed 1 outbox row")
    async with store.read() as session:
        left = set(await session.scalars(select(Outbox.dedupe_key)))
    assert left == {"new", "waiting", "dead"}
    assert (await running.last()).name.startswith("housekeeping · removed 1 outbox row")


async def test_two_who_remove_old_runs_at_once_remove_each_once(
    running: Running, clean_prefect: PrefectServer
) -> None:
    """As a Prefect server does that removes old runs itself: what is gone already is no failure."""
    with on(clean_prefect):
        for _ in range(6):
            await running.client.create_flow_run(housekeeping, state=Completed(), tags=[tag()])
        old = {"before": utcnow() + timedelta(minutes=1), "dry_run": False}
        removed = await asyncio.gather(prune_runs.fn(**old), prune_runs.fn(**old))
    assert sum(removed) == 6


async def test_the_audit_is_kept_for_good_unless_a_number_of_days_is_set(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    async with store.write() as session:
        for action, days in (("key.made", 500), ("backup.taken", 500), ("key.revoked", 399)):
            at = utcnow() - timedelta(days=days)
            session.add(Audit(at=at, by="anna", action=action, subject="product"))

    async def actions() -> set[str]:
        async with store.read() as session:
            return set(await session.scalars(select(Audit.action)))

    with on(clean_prefect):
        await housekeeping(return_state=True)
        assert await actions() == {"key.made", "backup.taken", "key.revoked"}
        state = await housekeeping(audit_days=400, return_state=True)
    assert "1 audit entry" in (await ended(state))[1]
    assert await actions() == {"backup.taken", "key.revoked"}


async def test_an_import_is_a_dry_run_first_and_again_changes_nothing(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        dry = await import_customers(CSV, return_state=True)
        assert await ended(dry) == ("Completed", "2 new, 0 changed, 0 unchanged")
        async with store.read() as session:
            assert not list(await session.scalars(select(Customer)))
        assert "Would be new (2)" in await running.artifact("import-customers")
        await import_customers(CSV, by="Petra", dry_run=False)
        again = await import_customers(CSV, dry_run=False, return_state=True)
    assert await ended(again) == ("Completed", "0 new, 0 changed, 2 unchanged")
    async with store.read() as session:
        assert set(await session.scalars(select(Customer.name))) == {"Acme", "Bolt"}


async def test_an_import_with_a_problem_is_refused_and_names_it(
    running: Running, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        state = await import_customers("name,contacts\nAcme,no-address\n", return_state=True)
    name, message = await ended(state)
    assert name == "Refused"
    assert "no-address" in message
    assert "1 problem, nothing imported" in (await running.last()).name


async def test_the_doctor_fails_if_something_is_wrong_and_publishes_its_table(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        state = await doctor(return_state=True)
    name, message = await ended(state)
    assert name == "Failed"
    assert "linekeeper" in message  # no pool, nothing deployed on this server
    table = await running.artifact("doctor")
    assert "linekeeper deploy" in table
    run = await running.last()
    assert "wrong" in run.name
    alert = Alert("run_failed", "doctor", str(run.id), run.name, message)
    assert not await record_alert(store, alert)  # red by what it found: it did not break


async def test_verifying_the_account_publishes_its_answers(
    running: Running, clean_prefect: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(SandboxSettings(port=0, connections=3)) as makini:
        monkeypatch.setenv("LINEKEEPER_MAKINI_API_URL", makini.url)
        monkeypatch.setenv("LINEKEEPER_MAKINI_CLIENT_ID", "sandbox-client")
        monkeypatch.setenv("LINEKEEPER_MAKINI_CLIENT_SECRET", "sandbox-secret")
        with on(clean_prefect):
            state = await verify_account(return_state=True)
    name, _ = await ended(state)
    assert name == "Completed"
    assert "MAKINI_PAGING=page" in await running.artifact("verify-account")
    assert "seen so" in (await running.last()).name


async def test_the_first_report_is_an_artifact_from_the_ui(
    running: Running, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        await doctor(first_report=True, return_state=True)  # what it finds is nothing to this
    assert (await running.artifact("first-report")).startswith("The first report\n\n# First report")


async def test_explaining_publishes_the_hops_and_refuses_what_nobody_knows(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    async with store.write() as session:
        connection = Connection(
            app="default", makini_key="k1", name="Maximo", slug="m", provider="Maximo"
        )
        session.add(connection)
    with on(clean_prefect):
        state = await explain("Maximo 4711", return_state=True)
        assert (await ended(state))[0] == "Completed"
        assert "has not finished connecting" in (await ended(state))[1]
        assert (await running.last()).name.endswith(" · source is missing")
        assert "| ✗ | source |" in await running.artifact("explain")
        state = await explain("nobody knows", return_state=True)
    assert (await ended(state))[0] == "Refused"
