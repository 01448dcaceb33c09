"""As many systems at once as the template says, also when the first steps of more are open."""

from linekeeper.implementation.at_once import limit_at_once
from linekeeper.implementation.glance import implementations_at_a_glance
from linekeeper.store.tables import Implementation
from tests.implementation.conftest import Office

TWO = ["Maximo", "SAP ECC"]


async def test_the_forecast_does_not_jump_once_both_logins_are_waited_for(office: Office):
    started = await office.start(systems=TWO)
    first = started.progress.outlook
    taken = await office.says(started.progress, "kickoff")
    assert taken.progress is not None
    second = taken.progress.outlook
    assert {"authentication-1", "authentication-2"} <= set(taken.progress.evaluation.having("open"))
    days = first.calendar.between(second.p50, first.p50)
    assert days <= 2, (first.p50, second.p50)
    gates = second.forecast.gates
    assert gates["first-sync-2"].start_p50 > gates["reconciliation-1"].finish_p50 - 0.5


async def test_who_is_further_goes_first(office: Office):
    started = await office.start(systems=TWO)
    await office.says(started.progress, "kickoff")
    await office.connects("Acme", "SAP ECC")  # the second
    progress = await office.advance(started.progress)
    assert progress.evaluation.statuses["authentication-2"] == "done"
    gates = progress.outlook.forecast.gates
    assert gates["workflow-configuration-2"].finish_p50 < gates["first-sync-1"].start_p50


async def test_before_anything_has_begun_the_plan_is_as_it_was(office: Office):
    plan = (await office.start(systems=TWO)).progress.standing.plan
    kept = limit_at_once(plan.gates, begun=set(), settled=set())
    assert {gate.id: gate.after for gate in kept} == {gate.id: gate.after for gate in plan.gates}


async def test_where_there_are_lanes_enough_nobody_waits(office: Office):
    started = await office.start(systems=TWO, complexity="enterprise")
    gates = started.progress.standing.plan.gates
    assert not [
        gate for gate in limit_at_once(gates, begun={"kickoff"}, settled=set()) if gate.after
    ]


async def test_an_implementation_that_the_first_version_began_goes_on(office: Office):
    started = await office.start(systems=TWO)
    taken = await office.says(started.progress, "kickoff")
    assert taken.progress is not None
    async with office.store.write() as session:
        row = await session.get(Implementation, started.progress.standing.implementation.id)
        assert row is not None
        kept = {name: value for name, value in row.template.items() if name != "at_once"}
        row.template = kept | {"lanes": row.template["at_once"]}
    progress = await office.advance(started.progress)
    assert progress.standing.plan == started.progress.standing.plan
    assert progress.evaluation.statuses["kickoff"] == "done"
    assert (await implementations_at_a_glance(office.store, now=office.now)).running == 1
