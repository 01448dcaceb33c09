"""implementation, its updates, advance, gate, preflight and credits, run as Prefect runs them."""

import itertools
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import State
from slugify import slugify
from sqlmodel import col, select

from flows.advance_implementations import advance_implementations
from flows.credits import credits
from flows.gate import gate
from flows.implementation import implementation
from flows.implementation_change import implementation_change
from flows.implementation_skip import implementation_skip
from flows.preflight import preflight
from linekeeper.clock import utcnow
from linekeeper.erasure import erase_customer
from linekeeper.store import Store
from linekeeper.store.tables import (
    Audit,
    CreditEntry,
    Customer,
    Gate,
    Implementation,
    Incident,
    Outbox,
)
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, edges, work
from tests.preflight.door import Door, door

__all__ = ["door"]
pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

HOSTILE = "<script>alert(1)</script> ![x](http://evil.example) $(reboot) `id` | ; rm -rf /"


def outcome(state: State[Any]) -> tuple[str, str]:
    """A state's name and message."""
    return state.name or "", state.message or ""


async def begin_implementation(**changed: Any) -> State[Any]:
    """Send the form of `implementation`."""
    given: dict[str, Any] = {
        "customer": "Acme",
        "systems": ["SAP ECC"],
        "kickoff": utcnow().date(),
        "by": "Olaf",
        "owner": "Petra",
    }
    state: State[Any] = await implementation(**given | changed, return_state=True)
    return state


async def stored(store: Store, statement: Any) -> list[Any]:
    async with store.read() as session:
        return list(await session.scalars(statement))


@pytest.mark.repeats(
    "implementation/test_start.py::test_what_cannot_be_is_refused_and_nothing_is_stored",
    "flows/test_refused.py::test_every_form_refuses_a_mistake_with_its_field_and_no_run_is_red",
)
async def test_what_cannot_be_is_refused_in_the_run_and_nothing_is_stored(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    today = utcnow().date()
    with on(clean_prefect):
        for changed, field in (
            ({"kickoff": today - timedelta(days=2)}, "Kickoff"),
            ({"country": "QQ"}, "Country"),
            ({"systems": []}, "Systems"),
            ({"systems": [f"System {n}" for n in range(500)]}, "Systems"),
            ({"committed": today - timedelta(days=3)}, "Committed go-live"),
            ({"systems": ["UpKeep", " upkeep "]}, "Systems"),
            ({"customer": "Acme\x1b[2J"}, "Customer"),
        ):
            name, message = outcome(await begin_implementation(**changed))
            assert name == "Refused"
            assert message.startswith(f"Refused, nothing was changed. {field}: "), message
        assert "refused" in (await running.last()).name
        _, message = outcome(
            await begin_implementation(
                kickoff="soon",
                committed="2027-13-01",
                country="QQ",
                customer=" ",
                systems=[
                    {"name": "UpKeep", "target": "no host"},
                    {"name": "upkeep", "hosting": "self-hosted"},
                ],
            )
        )
        for fault in (
            "Customer: is empty",
            "'upkeep' is there twice",
            "hosted differently (cloud, self-hosted)",
            "Systems: 'no host' needs a port",
            "Kickoff: 'soon' is not a date; write it as 2027-03-01",
            "Committed go-live: '2027-13-01' is not a date",
            "Country: QQ is not a country",
        ):
            assert fault in message, message
        paused = VariableCreate(name="linekeeper_paused", value=True)
        await running.client.create_variable(paused)
        assert outcome(await begin_implementation())[0] == "Skipped"
    for table in (Implementation, Customer, Gate, CreditEntry, Audit, Outbox):
        assert not await stored(store, select(table)), table


async def test_hostile_text_stays_text_wherever_people_read_it(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        name, message = outcome(
            await begin_implementation(
                customer=HOSTILE,
                owner=HOSTILE,
                hosting="on-premises",
                systems=[{"name": HOSTILE, "target": "erp.acme.example:44300"}],
            )
        )
        assert name == "Completed", message
        [one] = await stored(store, select(Implementation))
        assert re.fullmatch(r"[a-z0-9-]+", one.slug)
        state = await implementation_change(
            one.slug, by=HOSTILE, on_hold="put on hold", reason=HOSTILE, return_state=True
        )
        assert outcome(state)[0] == "Completed"
    keys = (f"implementation-{one.slug}", f"handover-{one.slug}", "portfolio", "credits")
    for key in keys:
        text = await running.artifact(key)
        rules = re.findall(r"```.*?```", text, re.S)
        assert not any("reboot" in rule or "rm -rf" in rule for rule in rules), key
        prose = re.sub(r"```.*?```", "", text, flags=re.S)
        assert "<script" not in prose, key
        assert "](http://evil" not in prose, key


async def test_links_lead_to_what_an_artifact_shows_and_outlive_the_run_that_wrote_it(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    async def pages() -> tuple[UUID, UUID]:
        """The hand-over, and where the implementation's page links to as such."""
        keys = ArtifactFilter(key=ArtifactFilterKey(any_=["handover-acme-sap-ecc"]))
        [paper] = await running.client.read_artifacts(artifact_filter=keys)
        assert paper.flow_run_id is None
        shown = await running.artifact("implementation-acme-sap-ecc")
        linked = re.search(r"Hand-over[^(]*\(\.\./\.\./artifacts/artifact/([0-9a-f-]+)\)", shown)
        assert linked is not None, shown
        return paper.id, UUID(linked[1])

    with on(clean_prefect):
        for artifact in await running.client.read_artifacts():
            await running.client.delete_artifact(artifact.id)
        await begin_implementation(
            hosting="on-premises",
            systems=[{"name": "SAP ECC", "target": "erp.acme.example:44300"}],
        )
        first = await pages()
        assert first[0] == first[1]
        await advance_implementations("Acme", return_state=True)
        assert await pages() == first
        await running.client.delete_artifact(first[0])  # as on a new Prefect
        await advance_implementations("Acme", return_state=True)
        again = await pages()
        assert again[0] == again[1] != first[0]


@pytest.mark.repeats(
    "implementation/test_start.py::test_the_same_customer_and_systems_are_the_same_implementation",
    "implementation/test_service_changes.py::test_dates_move_and_work_is_given_to_others",
    "implementation/test_faults.py::test_a_form_is_told_of_all_its_fields_by_the_names_it_has_for_them",
)
async def test_two_starts_are_one_and_an_operators_changes_are_kept_in_the_audit(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        assert "started" in outcome(await begin_implementation())[1]
        name, message = outcome(await begin_implementation(customer="ACME", systems=["sap  ecc"]))
        assert (name, "was there already" in message) == ("Completed", True)
        refused = await implementation_skip(
            "Acme", step="kick", reason=" ", by="Olaf", return_state=True
        )
        assert outcome(refused) == (
            "Refused",
            "Refused, nothing was changed. Reason: say why: it is kept in the audit. Correct it "
            "and send the form again.",
        )
        nobody = await implementation_change("Bolt", by="Olaf", owner="Petra", return_state=True)
        assert outcome(nobody)[0] == "Refused"
        assert "The nearest: Acme · SAP ECC" in outcome(nobody)[1]
        before = await stored(store, select(Implementation))
        half = await implementation_change(
            "Acme",
            by="Olaf",
            owner="Bob",
            committed=utcnow().date() - timedelta(9),
            step="nonsense",
            due=utcnow().date() + timedelta(9),
            target="no host",
            on_hold="put on hold",
            return_state=True,
        )
        name, message = outcome(half)
        assert name == "Refused"
        for fault in ("Committed go-live: ", "Step: ", "nonsense", "Host and port: ", "Reason:"):
            assert fault in message, message
        both = await implementation_skip(
            "Acme", step="go-live", reason=" ", by="Olaf", return_state=True
        )
        assert "these come first" in outcome(both)[1]
        assert "Reason: say why" in outcome(both)[1]
        nothing = await implementation_change("Acme", by="Olaf", return_state=True)
        assert outcome(nothing)[0] == "Refused"
        assert (await stored(store, select(Implementation)))[0].owner == before[0].owner
        skipped = await implementation_skip(
            "Acme", step="kickoff", by="Olaf", reason="done by phone", return_state=True
        )
        assert outcome(skipped)[0] == "Completed"
    assert len(await stored(store, select(Implementation))) == 1
    actions = await stored(store, select(col(Audit.action)).order_by(col(Audit.id)))
    assert actions == ["implementation.start", "implementation.skip"]
    assert "done by phone" in await running.artifact("implementation-acme-sap-ecc")


@pytest.mark.repeats(
    "implementation/test_preflight.py::test_a_closed_port_keeps_the_gate_shut_and_opening_it_moves_the_forecast",
    "implementation/test_preflight.py::test_what_was_proven_and_turns_is_one_incident_until_it_holds_again",
    "flows/test_vantages.py::test_the_daily_preflight_goes_to_the_worker_that_has_the_vantage",
)
async def test_preflight_finds_a_closed_port_and_its_daily_run_what_turns_later(
    running: Running, store: Store, clean_prefect: PrefectServer, door: Door
) -> None:
    with on(clean_prefect):
        assert outcome(await preflight(return_state=True))[0] == "Skipped"
        system = {"name": "SAP ECC", "vpn": True}
        await begin_implementation(hosting="on-premises", complexity="enterprise", systems=[system])
        early = await running.artifact("handover-acme-sap-ecc")
        assert "usually 443NN" in early.replace("\\", "")
        assert "Makini reaches SAP ECC through a VPN tunnel" in early
        for wrong in ({"system": "Bolt"}, {"system": "Acme"}, {"report": "{}"}, {"targets": ["x"]}):
            name, message = outcome(await preflight(**wrong, return_state=True))
            assert (name, message.startswith("Refused, nothing was c")) == ("Refused", True)
        shut = await preflight("Acme", [door.target], timeout=1, return_state=True)
        assert outcome(shut)[0] == "Failed"
        assert "1 checked, 1 finding: " in outcome(shut)[1]
        door.open()
        assert outcome(await preflight("Acme", timeout=1, return_state=True))[0] == "Completed"
        door.close()
        assert outcome(await preflight(timeout=1, return_state=True))[0] == "Failed"
        assert outcome(await preflight(timeout=1, return_state=True))[0] == "Completed"  # known
        _, lines = await edges(running, (await running.last()).id, 4)
        chain = ["plan", "check from inside", "update implementation pages"]
        assert lines == set(itertools.pairwise([*chain, "update preflight page"]))
        door.open()
        assert outcome(await preflight(timeout=1, return_state=True))[0] == "Completed"
        door.close()
    [incident] = await stored(store, select(Incident))
    assert incident.status == "resolved"
    shown = await running.artifact("preflight")
    assert "## From inside" in shown
    assert "Through a VPN tunnel: Acme · SAP ECC" in shown
    assert door.target in await running.artifact("handover-acme-sap-ecc")


@pytest.mark.repeats("credits/test_decide.py::test_a_start_is_allowed_only_if_the_credits_last")
async def test_credits_that_will_not_do_are_said_before_the_start(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    """B8: a rollout that will not fit is said before it starts."""
    with on(clean_prefect):
        assert outcome(await credits(bought=3, return_state=True))[0] == "Refused"
        assert outcome(await credits(bought=3, by="Olaf", return_state=True))[1].startswith(
            "0 taken, 0 reserved, 3 available (estimate)"
        )
        big: dict[str, Any] = {"systems": [{"name": "SAP ECC", "hosting": "on-premises"}]}
        name, message = outcome(await begin_implementation(**big))
        assert name == "Refused"
        assert "Credits: It needs 8 credits, 3 available (estimate): 5 short" in message
        assert not await stored(store, select(Implementation))
        name, message = outcome(
            await begin_implementation(**big, over_credits_because="more come on Monday")
        )
        assert name == "Completed"
    shown = await running.artifact("credits")
    assert "| 3 | 8 | 0 | -5 |" in shown
    assert re.search(r"\| \d{4}-\d\d-\d\d \| 8 \| -5 \*\*short\*\* \|", shown), shown
    [audit] = await stored(store, select(Audit).where(col(Audit.action) == "implementation.start"))
    assert audit.detail["over_credits_because"] == "more come on Monday"
    assert UUID(audit.detail["implementation"])


async def test_an_answer_to_a_gate_that_was_settled_meanwhile_is_kept_in_the_audit(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    """No worker took the run between the two."""
    with on(clean_prefect):
        await begin_implementation()
        [row] = await stored(store, select(Gate).where(col(Gate.gate) == "kickoff"))
        run = await begin(running, gate, gate=row.id)
        given = {
            "outcome": "done",
            "evidence": "minutes of the call",
            "note": "ask Eve",
            "by": "Eve",
        }
        await running.client.resume_flow_run(run.id, run_input=given)
        await implementation_skip("Acme", step="kickoff", by="Olaf", reason="known")
        run = await work(running, gate, run.id)
    assert run.state is not None
    assert (run.state.name, run.name) == (
        "Skipped",
        "Acme · Kickoff and technical requirements · skipped",
    )
    [late] = await stored(store, select(Audit).where(col(Audit.by) == "Eve"))
    assert late.action == "gate.answered_late"
    assert (late.detail["evidence"], late.detail["note"]) == ("minutes of the call", "ask Eve")
    [row] = await stored(store, select(Gate).where(col(Gate.id) == row.id))
    assert (row.status, row.skipped_because) == ("skipped", "known")


async def test_an_implementation_goes_on_when_its_customer_was_erased(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        await begin_implementation(customer="Acme Metals")
        await erase_customer(store, "Acme Metals", by="anna", now=utcnow())
        state = await advance_implementations(return_state=True)
        assert state.is_completed(), state.message
    [slug] = await stored(store, select(Implementation.slug))
    assert slug == slugify(slug)
    assert "acme" not in slug
