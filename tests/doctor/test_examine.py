"""The whole examination: database, apps, fleet, and others handed in."""

import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlmodel import select

import sandbox
from linekeeper.clock import utcnow
from linekeeper.doctor import DoctorFinding, Level, examine, examine_database, worst
from linekeeper.doctor.fleet import public_url
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Connection, Contact, Credential, Customer
from linekeeper.views.fleet_queries import fleet_report


async def test_a_database_in_order_is_said_to_be(store: Store, settings: Settings) -> None:
    findings = await examine_database(settings)
    assert worst(findings) != Level.wrong
    assert findings[0].text.startswith("SQLite" if store.is_sqlite else "PostgreSQL")


@pytest.mark.parametrize(("minutes", "said"), [(10, "600 s ahead of"), (-10, "600 s behind")])
async def test_a_clock_that_differs_from_the_databases_is_wrong(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch, minutes: int, said: str
) -> None:
    if store.is_sqlite:
        pytest.skip("SQLite has no clock of its own")
    off = timedelta(minutes=minutes)
    monkeypatch.setattr("linekeeper.doctor.house.utcnow", lambda: utcnow() + off)
    [found] = [finding for finding in await examine_database(settings) if finding.name == "clock"]
    assert found.level == "wrong"
    assert said in found.text


async def test_another_key_than_the_databases_is_wrong(store: Store, settings: Settings) -> None:
    other = SecretStr(Fernet.generate_key().decode())
    findings = await examine_database(settings.model_copy(update={"encryption_keys": (other,)}))
    assert [(finding.name, finding.level) for finding in findings] == [("encryption keys", "wrong")]


async def test_an_empty_database_says_what_to_run(empty_settings: Settings) -> None:
    findings = await examine_database(empty_settings)
    assert worst(findings) == Level.wrong
    assert "linekeeper migrate" in findings[0].fix


async def test_a_full_disk_is_wrong_and_not_called_writable(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the doctor would go on to what needs a row of its own, and end with one line."""
    settings.home.mkdir(exist_ok=True)
    used = shutil.disk_usage(settings.home)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: used)
    findings = await examine_database(settings)
    [disk] = [finding for finding in findings if finding.name == "disk"]
    assert (disk.level, disk.text) == ("wrong", f"0 MiB are free at {settings.home}")
    assert ("it can be written" in findings[0].text) is not store.is_sqlite


async def test_looking_at_a_home_that_isnt_there_makes_none(tmp_path: Path) -> None:
    home = tmp_path / "nowhere"
    (finding,) = await examine_database(Settings(home=home))
    assert finding.text == "there is none yet"
    assert not home.exists()


async def test_a_kind_of_database_it_does_not_know_is_named_whole(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr("postgresql+psycopg://u:p@db/x"))
    (finding,) = await examine_database(settings)
    assert finding.text.endswith("begins with postgresql+psycopg://, which is not supported")
    assert finding.fix == "use postgresql+asyncpg://… or sqlite+aiosqlite:///…"


async def test_a_database_nobody_answers_at_is_wrong(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        database_url=SecretStr("postgresql+asyncpg://u:hunter2@127.0.0.1:1/x"),
        encryption_keys=(SecretStr(Fernet.generate_key().decode()),),
    )
    (finding,) = await examine_database(settings)
    assert finding.level == "wrong"
    assert "does not answer" in finding.text
    assert "hunter2" not in repr(finding)


async def test_keys_others_may_read_are_pointed_out(tmp_path: Path) -> None:
    from linekeeper.store.migrate import migrate

    settings = Settings(home=tmp_path)
    async with Store.open(settings) as opened:
        await migrate(opened)
    (tmp_path / "encryption-keys").chmod(0o644)
    findings = {finding.name: finding for finding in await examine_database(settings)}
    assert findings["encryption keys"].level == "warn"


async def test_everything_is_looked_at_together(store: Store, settings: Settings) -> None:
    async with sandbox.serving(sandbox.Settings(port=0, connections=2)) as box:
        configured = settings.model_copy(
            update={
                "makini_api_url": box.url,
                "makini_client_id": box.world.settings.client_id,
                "makini_client_secret": SecretStr(box.world.settings.client_secret),
            }
        )
        await _fleet(store)

        async def prefect() -> Sequence[DoctorFinding]:
            return [DoctorFinding("prefect", Level.ok, "answers")]

        async with Runtime.open(configured) as rt:
            findings = {
                finding.name: finding for finding in await examine(rt, others=[prefect], seconds=5)
            }
    assert findings["prefect"].level == "ok"
    assert findings["app default · login"].level == "ok"
    assert findings["slack"].level == "warn"
    assert findings["contacts"].text == "1 customer without a confirmed contact: Acme"
    tokens = findings["app default · tokens"]
    assert tokens.text.startswith("1 connection without one")
    assert "mode to manage" in tokens.fix
    assert worst(findings.values()) == Level.warn


async def test_a_token_that_is_over_is_none_as_on_the_page_fleet(
    store: Store, settings: Settings
) -> None:
    """It was lent, and the product has lent no other since: the list is all there is."""
    await _fleet(store)
    async with store.write() as session:
        connection = (await session.scalars(select(Connection))).one()
        connection.custody = "borrowed"
        session.add(
            Credential(
                connection_id=connection.id,
                access_token=store.cipher.encrypt("lent"),
                expires_at=utcnow() - timedelta(hours=1),
            )
        )
    async with Runtime.open(settings) as rt:
        report = await fleet_report(store, await rt.configuration(), now=utcnow())
        findings = {finding.name: finding for finding in await examine(rt)}
    assert report.tokenless_total == 1
    assert findings["app default · tokens"].text.startswith("1 connection without one")


async def test_no_app_at_all_is_pointed_out(store: Store, settings: Settings) -> None:
    async with Runtime.open(settings) as rt:
        findings = {finding.name: finding for finding in await examine(rt)}
    assert findings["makini"].level == "warn"


async def test_an_address_that_is_none_is_a_finding(store: Store, settings: Settings) -> None:
    broken = settings.model_copy(update={"makini_api_url": "https://user:hunter2@makini"})
    async with Runtime.open(broken) as rt:
        findings = {finding.name: finding for finding in await examine(rt)}
    assert findings["app default · address"].level == "wrong"
    assert "hunter2" not in repr(findings)


@pytest.mark.parametrize(
    ("url", "level"),
    [
        (None, "warn"),
        ("http://lines.acme.example", "warn"),
        ("https://lines.acme.example/", "ok"),
        ("https://localhost:8642", "warn"),
    ],
)
def test_an_address_nobody_outside_can_use_is_pointed_out(url: str | None, level: str) -> None:
    assert public_url(Settings(public_url=url)).level == level


def test_the_worst_of_nothing_is_ok() -> None:
    assert worst([]) == Level.ok


async def _fleet(store: Store) -> None:
    """Acme, whom nobody could tell, with one connection; Zeta, whom one could."""
    acme, zeta = Customer(name="Acme", slug="acme"), Customer(name="Zeta", slug="zeta")
    async with store.write() as session:
        session.add_all([acme, zeta])
        await session.flush()
        session.add(Contact(customer_id=zeta.id, email="z@x.org"))
        session.add(
            Connection(
                app="default", makini_key="1", customer_id=acme.id, name="Acme - SAP", slug="a"
            )
        )


async def test_a_fleet_without_a_recent_backup_is_pointed_out(
    store: Store, settings: Settings
) -> None:
    async def said() -> list[str]:
        found = await examine_database(settings)
        return [f"{finding.level}: {finding.text}" for finding in found if finding.name == "backup"]

    assert await said() == []
    async with store.write() as session:
        customer = Customer(name="A", slug="a")
        session.add(customer)
        await session.flush()
        session.add(
            Connection(
                app="default",
                makini_key="k",
                customer_id=customer.id,
                name="n",
                slug="n",
                provider="p",
            )
        )
    assert await said() == ["warn: none was taken yet"]
    for days, expected in ((20, "warn: the last one is 20 days old"), (2, "ok: 2 days old")):
        async with store.write() as session:
            at = utcnow() - timedelta(days=days, minutes=1)
            session.add(Audit(at=at, by="me", action="backup.taken", subject="b"))
        assert await said() == [expected]
