"""The Gantt: small, well-formed, and no text in it does anything."""

from dataclasses import replace
from datetime import UTC, date, datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.implementation.chart import gantt
from linekeeper.implementation.evaluate import Block, GateState, evaluate
from linekeeper.implementation.outlook import Outlook, forecast_plan, look_ahead
from linekeeper.implementation.scope import parse_scope

SVG = "{http://www.w3.org/2000/svg}"
NOW = datetime(2027, 3, 10, 12, tzinfo=UTC)


def outlook(complexity="custom", hosting="on-premises", systems=2, workflows=2) -> Outlook:
    scope = parse_scope(
        complexity=complexity,
        hosting=hosting,
        systems=systems,
        custom_workflows=workflows,
        kickoff=date(2027, 3, 1),
        today=date(2026, 11, 24),
        country="DE",
        committed=date(2027, 4, 9),
    )
    return look_ahead(scope, trials=200)


PLANNED = outlook()


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def classes(svg: str) -> list[str]:
    return [element.get("class", "") for element in ElementTree.fromstring(svg).iter()]


def test_sixty_gates_are_under_sixty_kilobytes_even_with_all_that_happened():
    large = outlook("enterprise", "on-premises", 9, 6)
    assert len(large.plan.gates) == 60
    opened = datetime(2027, 3, 1, 9, tzinfo=UTC)
    blocks = (Block(opened, "x", "customer"),)
    states = {gate.id: GateState(opened_at=opened, blocks=blocks) for gate in large.plan.gates}
    result = evaluate(large.plan, states, {}, NOW, large.calendar)
    svg = gantt(large, "<&>" * 100, NOW, result)
    assert len(svg.encode()) < 60_000
    assert sum(text in {gate.title for gate in large.plan.gates} for text in texts(svg)) == 60


def test_a_plan_shows_gates_critical_path_forecast_and_the_customers_turn():
    svg = gantt(PLANNED, "Acme")
    assert {gate.title for gate in PLANNED.plan.gates} <= set(texts(svg))
    count = {kind: classes(svg).count(kind) - 1 for kind in ("k", "p", "f", "w", "a")}
    path = len(PLANNED.plan.critical_path)
    whole = len(PLANNED.plan.gates)
    customer = sum(gate.owner == "customer" for gate in PLANNED.plan.gates)
    assert count == {"k": path, "p": whole - path, "f": whole, "w": customer, "a": 0}
    assert "committed" in texts(svg)
    assert "today" not in texts(svg)


def test_what_happened_is_drawn_beside_what_was_planned():
    first = datetime(2027, 3, 1, 9, tzinfo=UTC)
    third = datetime(2027, 3, 3, 9, tzinfo=UTC)
    states = {
        "kickoff": GateState(opened_at=first, done_at=third),
        "credits": GateState(skipped_because="overage"),
        "network": GateState(opened_at=third),
        "design": GateState(opened_at=third, blocks=(Block(third, "x", "makini"),)),
    }
    result = evaluate(PLANNED.plan, states, {}, NOW, PLANNED.calendar)
    svg = gantt(forecast_plan(PLANNED.plan, PLANNED.calendar, result), "Acme", NOW, result)
    assert "today" in texts(svg)
    assert "Credits reserved (skipped)" in texts(svg)
    kinds = classes(svg)
    assert (kinds.count("a") - 1, kinds.count("b") - 1, kinds.count("w") - 1) == (2, 1, 1)
    assert kinds.count("f") - 1 == len(PLANNED.plan.gates) - 2


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_brings_a_background_for_each_of_the_readers_preferences(mode):
    svg = gantt(PLANNED, "Acme")
    style = next(ElementTree.fromstring(svg).iter(f"{SVG}style")).text or ""
    light, dark = style.split("@media(prefers-color-scheme:dark)")
    assert ".bg{fill:" in (light if mode == "light" else dark)


@given(st.text(max_size=80) | st.sampled_from([
    "</text><script>alert(1)</script>", '" onload="alert(1)', "]]>", "<!-- ", "&lt;", "\x00\ud800"
]))  # fmt: skip
def test_text_never_becomes_markup(text):
    gates = tuple(replace(gate, title=text or "-") for gate in PLANNED.plan.gates)
    hostile = replace(PLANNED, plan=replace(PLANNED.plan, gates=gates))
    svg = gantt(hostile, text)
    svg.encode()
    plain = ElementTree.fromstring(gantt(PLANNED, "Acme"))
    shape = ElementTree.fromstring(svg)
    assert [one.tag for one in shape.iter()] == [one.tag for one in plain.iter()]
    names = {name for one in shape.iter() for name in one.attrib}
    assert names == {name for one in plain.iter() for name in one.attrib}
