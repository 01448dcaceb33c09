"""`GET /customer/{token}`: one customer's, signed, revocable; ticks move the gates."""

import tomllib

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.access.page_links import revoke_links
from linekeeper.clock import utcnow
from linekeeper.customer_page.words import words_of
from linekeeper.implementation.order import Form
from linekeeper.implementation.start import start
from linekeeper.language import PAGES
from linekeeper.store.tables import Audit, ConnectLink, Gate, Implementation
from tests.customer_page.conftest import GERMAN, Portal


async def test_a_customer_sees_what_is_asked_and_nothing_of_anybody_else(portal: Portal) -> None:
    shown = await portal.get()
    assert shown.status_code == 200
    for text in (
        "Acme &lt;GmbH&gt;",
        "Log in to Maximo",
        "/connect/",
        "Network preparation",
        "Let Makini reach SAP ECC at sap.acme.example:443",
        "15.204.75.108",
        "login needed",
        "can&#39;t be reached",
    ):
        assert text in shown.text, text
    for secret in ("Other Secret", "Infor", "internal", "Petra", "Olaf", "<script"):
        assert secret not in shown.text, secret
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert shown.headers["cache-control"] == "no-store"


async def test_the_json_says_the_same(portal: Portal) -> None:
    page = await portal.json()
    assert page["customer"] == "Acme <GmbH>"
    assert [system["state"] for system in page["connections"]] == [
        "reauthorization_required",
        "unreachable",
        "healthy",
    ]
    assert page["asked"][0]["kind"] == "login"
    assert "internal" not in str(page)
    assert (await portal.link()).opened_at is None  # a portal that polls opens nothing


async def test_opening_is_seen_by_the_operator_once_an_hour(portal: Portal) -> None:
    await portal.get()
    await portal.get()
    link = await portal.link()
    assert link.opened_at is not None
    assert link.opens == 1


async def test_the_implementations_page_says_when_the_customer_opened_theirs(
    portal: Portal,
) -> None:
    assert "The customer's own page: not opened yet, not answered yet." in await portal.operators()
    await portal.get()
    opened = (await portal.link()).opened_at
    assert opened is not None
    assert f"own page: opened {opened:%Y-%m-%d %H:%M} UTC, not answered yet" in (
        await portal.operators()
    )


async def test_a_tick_settles_the_step_and_a_comment_is_kept(portal: Portal) -> None:
    [step] = [step for step in (await portal.json())["requirements"] if step["can_tick"]]
    said = await portal.post(step=step["id"], comment="The firewall team <b>needs</b> a week")
    assert (said.status_code, said.headers["location"]) == (303, "?saved=1")
    gate = await portal.gate(step["id"])
    assert (gate.status, gate.note) == ("open", "The firewall team <b>needs</b> a week")
    assert "&lt;b&gt;needs" in (await portal.get("?saved=1")).text
    assert (await portal.post(step=step["id"], done="yes", comment="Rule 17")).status_code == 303
    gate = await portal.gate(step["id"])
    assert (gate.status, gate.done_by) == ("done", "the customer, on their page")
    assert gate.evidence == "Ticked on the customer's page. Rule 17"
    async with portal.here.rt.store.read() as session:
        actions = [row.action for row in await session.scalars(select(Audit))]
    assert {"gate.comment", "gate.done"} <= set(actions)
    assert (await portal.link()).answered_at is not None
    again = await portal.post(step=step["id"], done="yes")
    assert again.status_code == 422
    assert "settled already" in again.text
    after = await portal.json()
    assert step["id"] not in [each["id"] for each in after["requirements"]]


async def test_a_comment_with_a_zero_byte_is_kept_without_it(portal: Portal) -> None:
    """PostgreSQL takes none: the customer was asked to try again in a minute, time after time."""
    [step] = [step for step in (await portal.json())["requirements"] if step["can_tick"]]
    assert (await portal.post(step=step["id"], comment="Rule\x00 17")).status_code == 303
    assert (await portal.gate(step["id"])).note == "Rule 17"


async def test_what_is_no_answer_changes_nothing(portal: Portal) -> None:
    [step] = [step for step in (await portal.json())["requirements"] if step["can_tick"]]
    assert (await portal.post(step=step["id"])).status_code == 422
    assert (await portal.post(step="nonsense", done="yes")).status_code == 422
    assert (await portal.post(step=step["id"], comment="x" * 2_001)).status_code == 422
    assert (await portal.gate(step["id"])).status == "open"


async def test_nobody_ticks_a_step_of_another_customer(portal: Portal) -> None:
    [mine] = [step for step in (await portal.json())["requirements"] if step["can_tick"]]
    async with portal.here.rt.store.read() as session:
        gates = await session.scalars(select(Gate).where(Gate.status == "open"))
        [theirs] = [
            gate for gate in gates if gate.gate.startswith("network") and gate.id != mine["id"]
        ]
    assert (await portal.post(step=theirs.id, done="yes")).status_code == 422
    assert (await portal.gate(theirs.id)).status == "open"


async def test_a_link_that_is_revoked_or_altered_shows_nothing(portal: Portal) -> None:
    altered = portal.path[:-2] + ("AA" if not portal.path.endswith("AA") else "BB")
    assert (await portal.here.http.get(altered)).status_code == 404
    async with portal.here.rt.store.write() as session:
        assert await revoke_links(session, portal.customer.id, by="tests", now=utcnow()) == 1
    gone = await portal.get()
    assert gone.status_code == 404
    assert "Acme" not in gone.text
    assert (await portal.get(".json")).status_code == 404
    assert (await portal.post(step="x", done="yes")).status_code == 404


async def test_german_is_german(portal: Portal) -> None:
    await portal.speak(GERMAN)
    shown = (await portal.get()).text
    for text in ('<html lang="de">', "Bei Maximo anmelden", "Netzwerk vorbereiten", "erreichbar"):
        assert text in shown, text
    for text in ("Log in", "Network preparation", "since"):
        assert text not in shown, text


def test_every_language_says_everything_with_the_same_values() -> None:
    english = tomllib.loads((PAGES / "en.toml").read_text("utf-8"))
    for path in PAGES.glob("*.toml"):
        other = tomllib.loads(path.read_text("utf-8"))
        for part, texts in english.items():
            if isinstance(texts, dict):
                assert texts.keys() <= other[part].keys(), (path.name, part)
    assert words_of("pt").language == "en"
    assert words_of("de_AT").language == "de"


async def test_what_verifies_itself_is_not_called_to_do(portal: Portal) -> None:
    """Nothing is asked of the customer there, so nothing may look as if it were."""
    async with portal.here.rt.store.write() as session:
        mine = select(Implementation.id).where(Implementation.customer_id == portal.customer.id)
        await session.execute(
            update(Gate).where(col(Gate.implementation_id).in_(mine)).values(status="open")
        )
    page = await portal.json()
    asked = {each["text"] for each in page["asked"]}
    for step in page["requirements"]:
        assert (step["status_text"] == "to do") == (step["title"] in asked), step
    assert any("checked automatically" in step["status_text"] for step in page["requirements"])


async def test_no_mail_is_promised_to_a_customer_who_has_no_link(portal: Portal) -> None:
    """In observe, and where customers are not mailed, none would come."""
    async with portal.here.rt.store.write() as session:
        await session.execute(update(ConnectLink).values(used_at=utcnow()))
    page = await portal.json()
    [text] = [each["text"] for each in page["asked"] if each["kind"] == "login"]
    assert "mail" not in text
    assert "Ask whoever gave you" in text


async def test_a_custom_workflow_of_the_customers_is_not_said_to_be_a_systems(
    portal: Portal,
) -> None:
    form = Form("Acme <GmbH>", ["UpKeep"], "custom", portal.now.date(), "Olaf", custom_workflows=1)
    started = await start(portal.here.rt.store, form, now=portal.now)
    async with portal.here.rt.store.write() as session:
        await session.execute(
            update(Gate)
            .where(
                col(Gate.implementation_id) == started.progress.standing.implementation.id,
                col(Gate.gate) == "custom-workflow-1",
            )
            .values(owner="customer")
        )
    titles = [step["title"] for step in (await portal.json())["steps"]]
    assert "Custom workflow 1" in titles


async def test_no_port_is_asked_for_of_a_system_in_the_cloud(portal: Portal) -> None:
    form = Form(
        "Acme <GmbH>",
        ["Maximo", "UpKeep"],
        "standard",
        portal.now.date(),
        "Olaf",
        hostings=["on-premises", "cloud"],
        targets=["maximo.acme.example:443", "upkeep.example:443"],
    )
    await start(portal.here.rt.store, form, now=portal.now)
    said = (await portal.get()).text
    assert "maximo.acme.example:443" in said
    assert "upkeep.example:443" not in said
