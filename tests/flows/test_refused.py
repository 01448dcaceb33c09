"""A form with a mistake ends green, `Refused`: which field, what was wrong with it, what to enter.

Every deployment's form, as `linekeeper deploy` deploys it, is sent with mistakes that Prefect's own
check of a form lets through. Each form is a run; a run is handed all its mistakes.
"""

import asyncio
import copy
import functools
from collections import defaultdict
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.flow_engine import run_flow_async
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.schema_tools.validation import ValidationError, validate

import sandbox
from linekeeper.clock import utcnow
from linekeeper.implementation.order import Form
from linekeeper.implementation.start import start
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer
from tasks.prefect_adapter.project import wanted_deployments
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_forms import ENTRYPOINTS
from tests.flows.test_reconnect_flows import adopted, fleet, rows

__all__ = ["fleet"]
pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]
SOON = {"by": "Petra"}
WITHOUT_A_FORM = {"health-sweep", "process-webhooks", "refresh-tokens"}
NOTHING_TO_MISTAKE = {
    "digest": {"tell": "perhaps"},
    "doctor": {"timeout_seconds": 0},
    "housekeeping": {"run_days": 0},
}
"""Forms of switches and numbers: Prefect takes none that is wrong, and makes no run."""
LONG = "none" * 30 + "…" + "none" * 720
"""As somebody enters who copied it from a message that cuts long input."""
Mistake = tuple[str, dict[str, Any], str]
"""A deployment, what is entered, and the title of the field that is named."""


def mistakes(connection: str, key: str, customer: str, project: str) -> list[Mistake]:
    """With one connection, its customer and an implementation that are there."""
    of = {"connection": connection}
    one = {"customer": customer, **SOON}
    new = {
        "customer": "Zeta",
        "systems": [{"name": "UpKeep"}],
        "kickoff": f"{utcnow():%Y-%m-%d}",
        **SOON,
    }
    changed = {"implementation": project, **SOON}
    early = (utcnow() - timedelta(days=400)).date().isoformat()
    return [
        ("acknowledge", {"incident": "none", **SOON}, "Incident"),
        ("adopt", {"app": "none"}, "App"),
        ("advance-implementations", {"implementation": "none"}, "Implementation"),
        ("authentication-setup", {}, "Connection"),
        ("authentication-setup", {"connection": "none"}, "Connection"),
        ("authentication-setup", {"implementation": "none"}, "Implementation"),
        ("authentication-setup", {"implementation": project, "system": "none"}, "System"),
        ("check-connection", {"connection": "none"}, "Connection"),
        ("connect", {}, "Customer"),
        ("connect", {"customer": "Zeta"}, "System"),
        ("connect", {"connection": "none"}, "Connection"),
        ("connect", {"customer": "Zeta", "system": "UpKeep", "app": "none"}, "App"),
        ("credits", {"app": "none"}, "App"),
        ("credits", {"bought": 3}, "Your name"),
        ("customer-update", {"customer": "none", **SOON}, "Customer"),
        ("customer-update", {**one, "time_zone": "Mars"}, "Time zone"),
        ("customer-update", {**one, "locale": "???"}, "Language"),
        ("customer-update", {**one, "contacts": "nobody"}, "Contacts to add"),
        ("customer-update", {**one, "remove_contacts": "nobody"}, "Contacts to remove"),
        ("customer-update", {**one, "remove_contacts": "no@x.example"}, "Contacts to remove"),
        ("customer-update", {**one, "system": "none", "tier": "II"}, "System"),
        ("customer-update", {**one, "system": "none"}, "System"),
        ("customer-update", {**one, "same_as": "none"}, "Is the same as"),
        ("customer-update", {**one, "same_as": customer}, "Is the same as"),
        ("customer-update", {**one, "page": "mail"}, "Their page"),
        (
            "deletions",
            {"deletion": "none", "decision": "accept", **SOON},
            "Deletion, or connection",
        ),
        ("deletions", {"deletion": "none", "decision": "show", **SOON}, "Deletion, or connection"),
        ("deletions", {"deletion": connection, "decision": "pair", "pairs": "x", **SOON}, "Pairs"),
        (
            "deletions",
            {"deletion": connection, "decision": "pair", "pairs": "a = b", **SOON},
            "Pairs",
        ),
        ("disconnect", {"connection": "none"}, "Connection"),
        ("disconnect", {**of, "confirm": "yes", **SOON}, "Confirm"),
        ("disconnect", {**of, "confirm": key}, "Your name"),
        ("explain", {"subject": "none"}, "Subject"),
        ("gate", {"gate": "none"}, "Gate"),
        ("implementation", {**new, "kickoff": "soon"}, "Kickoff"),
        ("implementation", {**new, "committed": "later"}, "Committed go-live"),
        ("implementation", {**new, "country": "Utopia"}, "Country"),
        ("implementation", {**new, "custom_workflows": -1}, "Custom workflows"),
        ("implementation", {**new, "systems": []}, "Systems"),
        ("implementation", {**new, "systems": [{"name": " "}]}, "Systems"),
        ("implementation", {**new, "systems": [{"name": "SAP", "target": "no port"}]}, "Systems"),
        ("implementation", {**new, "app": "none"}, "App"),
        ("implementation", {**new, "customer": "  "}, "Customer"),
        (
            "implementation-change",
            {"implementation": "none", "owner": "O", **SOON},
            "Implementation",
        ),
        ("implementation-change", {**changed, "committed": "soon"}, "Committed go-live"),
        ("implementation-change", {**changed, "committed": early}, "Committed go-live"),
        ("implementation-change", {**changed, "due": "2030-01-01"}, "Step"),
        ("implementation-change", {**changed, "step": "none", "due": "2030-01-01"}, "Step"),
        (
            "implementation-change",
            {**changed, "step": "Go-live", "due": early},
            "Due date of the step",
        ),
        ("implementation-change", {**changed, "owner": "customer"}, "Owner"),
        ("implementation-change", {**changed, "target": "::"}, "Host and port"),
        ("implementation-change", {**changed, "on_hold": "put on hold"}, "Reason"),
        ("implementation-change", changed, "Committed go-live"),
        (
            "implementation-change",
            {**changed, "implementation": "  ", "owner": "O"},
            "Implementation",
        ),
        (
            "implementation-skip",
            {"implementation": "none", "step": "x", "reason": "r", **SOON},
            "Implementation",
        ),
        ("implementation-skip", {**changed, "step": "none", "reason": "r"}, "Step"),
        (
            "implementation-skip",
            {**changed, "step": "UpKeep · Webhooks verified", "reason": ""},
            "Reason",
        ),
        (
            "implementation-abandon",
            {"implementation": "none", "reason": "r", **SOON},
            "Implementation",
        ),
        ("implementation-abandon", {**changed, "reason": ""}, "Reason"),
        ("import-customers", {"csv": "nonsense"}, "CSV"),
        ("maintenance-window", {"scope": "connection", "subject": "none", **SOON}, "Subject"),
        ("maintenance-window", {"scope": "provider", "subject": "none", **SOON}, "Subject"),
        ("maintenance-window", {"scope": "incident", "subject": "none", **SOON}, "Subject"),
        ("maintenance-window", {"scope": "all", "starts": "soon", **SOON}, "Starts"),
        (
            "maintenance-window",
            {"scope": "all", "starts": "9999-12-31T23:59:00-12:00", **SOON},
            "Starts",
        ),
        (
            "maintenance-window",
            {"scope": "all", "starts": "9999-12-01T00:00:00Z", **SOON},
            "Starts",
        ),
        ("mode", {"names": ["none"], "set_to": "observe"}, "Names"),
        ("mode", {"names": ["none"], "of": "tags", "set_to": "observe"}, "Names"),
        ("mode", {"names": [connection]}, "Mode"),
        (
            "mode",
            {"names": [connection], "set_to": "clear the rule", "customers": "notify"},
            "Their customers",
        ),
        ("mode", {"names": [connection], "set_to": "observe", "confirm": "no", **SOON}, "Confirm"),
        ("mode", {"names": [connection], "set_to": "observe", "confirm": "observe 1"}, "Your name"),
        ("preflight", {"system": "none"}, "System"),
        ("preflight", {"system": project}, "Hosts and ports"),
        ("preflight", {"targets": ["::"]}, "Hosts and ports"),
        ("preflight", {"targets": ["a.example:1"], "control": "::"}, "Open place"),
        ("preflight", {"report": "{}"}, "Report"),
        ("reconcile", {"connections": ["none"]}, "Connections"),
        ("reconcile", {"entities": ["none"]}, "Entities"),
        ("reconnect", {}, "Connection"),
        ("reconnect", {"incident": "none"}, "Incident"),
        ("reconnect", of, "Connection"),
        ("replay-webhooks", {"connection": "none"}, "Connection"),
        ("replay-webhooks", {"since": "soon"}, "Since"),
        ("reconcile", {"entities": ["work orders"]}, "Entities"),
        ("reconcile", {"entities": ["eam/work orders"]}, "Entities"),
        ("reconcile", {"entities": ["eam/../admin/connections"]}, "Entities"),
        ("verify-account", {"app": "none"}, "App"),
        ("verify-account", {"write_on": key}, "Confirm"),
        ("workflow-configuration", {"connection": "none"}, "Connection"),
        ("workflow-configuration", {**of, "entities": ["none"]}, "Entities"),
        ("workflow-configuration", {**of, "entities": ["eam/work?orders"]}, "Entities"),
        (
            "workflow-configuration",
            {**of, "entities": ["none"], "forward_to": "none"},
            "Forwarding target",
        ),
        ("implementation", {**new, "kickoff": "soon", "custom_workflows": -1}, "Custom workflows"),
        ("workflow-configuration", {**of, "forward_to": "none"}, "Forwarding target"),
    ]


def longer(entered: dict[str, Any]) -> dict[str, Any]:
    """The same with thousands of characters where a name is that nobody has; empty without one."""
    made = {
        name: LONG if value == "none" else [LONG] if value == ["none"] else value
        for name, value in entered.items()
    }
    return made if made != entered else {}


def entering(flow: Any, forms: list[dict[str, Any]], ended: list[State]) -> Any:
    """`flow`, whose run is handed all `forms`, one after the other, and how each of them `ended`.

    A run of its own for each would ask the server twenty times, for the same every time.
    """
    each = copy.copy(flow)

    @functools.wraps(flow.fn)
    async def enter(**first: Any) -> State:
        ended.append(await flow.fn(**first))
        for entered in forms[1:]:
            ended.append(await flow.fn(**flow.validate_parameters(entered)))
        return ended[0]

    each.fn = enter
    return each


async def tasks_of(running: Running, runs: list[UUID]) -> list[TaskRun]:
    """The task runs of `runs`, once the last of them is known: the server records them later."""
    of = FlowRunFilter(id=FlowRunFilterId(any_=runs))
    for _ in range(300):
        found = await running.client.read_task_runs(flow_run_filter=of)
        ended = {task.task_key.partition("-")[0] for task in found if task.state.is_final()}
        if "ask" in ended:
            return found
        await asyncio.sleep(0.2)
    raise AssertionError("no task run of verify-account")


@pytest.mark.timeout(900)
async def test_every_form_refuses_a_mistake_with_its_field_and_no_run_is_red(
    settings: Settings,
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
) -> None:
    await adopted()
    [connection, *_] = await rows(store, Connection)
    [customer] = await rows(store, Customer, Customer.id == connection.customer_id)
    order = Form(
        customer="Granite Tools",
        systems=["UpKeep"],
        complexity="standard",
        kickoff=utcnow().date(),
        by="Olaf",
    )
    started = await start(store, order, run_id=None, now=utcnow())
    project = started.progress.standing.implementation.title
    table = mistakes(connection.name, connection.makini_key, customer.name, project)
    table += [(name, long, title) for name, entered, title in table if (long := longer(entered))]
    before = await rows(store, Connection)
    schemas = {one.name: one.parameter_schema for one in await wanted_deployments()}
    with on(clean_prefect):
        forms: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for name, entered, _ in table:
            forms[name].append(entered)
        made, said = {}, {}
        for name, wanted in forms.items():
            for each in wanted:  # what Prefect itself checks, on its server
                validate(each, schemas[name], raise_on_error=True)
            flow: Any = load_flow_from_entrypoint(ENTRYPOINTS[name], use_placeholder_flow=False)
            run = await running.client.create_flow_run(flow, parameters=wanted[0])
            made[name], said[name] = run.id, list[State]()
            await run_flow_async(
                entering(flow, wanted, said[name]),
                flow_run=run,
                parameters=dict(run.parameters),
                return_type="state",
            )
        ended = await running.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(made.values())))
        )
        for run in ended:
            assert run.state is not None
            assert run.state.name == "Refused", (run.name, run.state.message)
            assert "refused" in run.name
            assert all(part.strip() for part in run.name.split("·")), run.name
        assert {run.id for run in ended} == set(made.values())
        wrong = []
        for name, entered, title in table:
            [state, *said[name]] = said[name] or [None]
            message = (state.message or "") if state is not None else ""
            field = f" {title}: "
            is_named = field in message and ". " in message.partition(field)[2]
            is_raw = any(
                f"{end} {raw}: " in message for end in ".;" for raw in schemas[name]["properties"]
            )
            is_short = len(message) < 1_500 and LONG[:200] not in message
            if state is None or state.name != "Refused" or not is_named or is_raw or not is_short:
                wrong.append((name, entered, title, state))
        assert wrong == []
        assert {*forms} | WITHOUT_A_FORM | {*NOTHING_TO_MISTAKE} == {*schemas}
        for name, entered in NOTHING_TO_MISTAKE.items():
            with pytest.raises(ValidationError):
                validate(entered, schemas[name], raise_on_error=True)
        assert not any(schemas[name]["properties"] for name in WITHOUT_A_FORM)
    assert await rows(store, Connection) == before
    assert [
        task.name
        for task in await tasks_of(running, list(made.values()))
        if task.state_name != "Completed"
    ] == []
