"""The first quarter of an hour: what was found, as a report for a meeting."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

import sandbox
from linekeeper.cli import main
from linekeeper.clock import utcnow
from linekeeper.credits.service import check, ledger
from linekeeper.makini import TokenPair
from linekeeper.reconcile.run import reconcile
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Contact, Customer
from linekeeper.tokens.stored import save_tokens
from linekeeper.views.first_report import first_report_markdown, read_first_report
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, running
from tests.health.conftest import fleet, rt
from tests.health.test_sweep import connections, control, sweep

__all__ = ["fleet", "rt", "running"]


async def report(rt: Runtime) -> str:
    return first_report_markdown(await read_first_report(rt, now=utcnow()))


async def test_it_says_what_was_found_and_what_would_be_told_whom(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await sweep(rt)
    [lost, ending, *_] = await connections(rt)
    await control(fleet, f"connections/{lost.makini_key}/change-credentials")
    await control(fleet, "settings", refused="eam/assets=403")
    assert lost.customer_id is not None
    async with rt.store.write() as session:
        for address, confirmed in (("it@acme.example", True), ("guess@acme.example", False)):
            session.add(Contact(customer_id=lost.customer_id, email=address, confirmed=confirmed))
        customer = await session.get_one(Customer, lost.customer_id)
        customer.owner = "Petra"
        session.add(customer)
    await sweep(rt)
    await reconcile(rt, connections=[ending.id], full=True)
    ends = utcnow() + timedelta(days=9)
    async with rt.store.write() as session:
        pair = TokenPair("secret-access", "secret-refresh", ends, minted=False)
        await save_tokens(rt.store, session, {ending.id: pair}, now=utcnow())
    found = await report(rt)
    async with rt.store.read() as session:
        providers = list(await session.scalars(select(col(Connection.provider))))
    for provider in set(providers):
        assert f"{provider} | {providers.count(provider)} |" in found.replace("\\", "")
    dead, _, rest = found.partition("## Entities that can't be read")
    assert f"{customer.name} · " in dead
    assert "Reauthorization required" in dead
    unreadable, _, rest = rest.partition("## Webhooks")
    assert "eam/assets" in unreadable
    assert "12 never sent a webhook here" in rest
    await check(rt.store, now=utcnow())  # what comes at night; the report knows it before
    used = (await ledger(rt.store, today=utcnow().date())).balance.consumed
    assert used >= 12
    assert f"The connections use {used} credits" in rest
    assert "UTC" in rest.partition("## Credits")[0].partition("## Tokens")[2]
    notified = rest.partition("## Whom Linekeeper would notify")[2]
    assert "Petra | 1 | 0 |" in notified  # nobody confirmed the other contact
    assert "would be posted, were Slack configured" in notified
    assert "`notify_customers` is on for it" in notified
    assert "all 12 managed; no customer is notified" in found
    for secret in ("secret-access", "secret-refresh", "acme.example"):
        assert secret not in found


async def test_the_command_writes_a_private_file_and_the_artifact(
    rt: Runtime,
    running: Running,
    clean_prefect: PrefectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", clean_prefect.api_url)
    file = tmp_path / "monday.md"
    monkeypatch.setattr("sys.argv", ["linekeeper", "first-report", "--file", str(file)])
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(main)
    assert ended.value.code in (0, None), capsys.readouterr()
    assert "so is the artifact first-report" in capsys.readouterr().out
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().startswith("# First report: No connections yet")
    shown = await running.artifact("first-report")
    assert file.read_text().rstrip() in shown
