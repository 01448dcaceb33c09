"""Templates are data: what a team may change, and what is refused with field and reason."""

import contextlib
import json
import textwrap

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.implementation.scope import COMPLEXITIES, PlanError
from linekeeper.implementation.template import SHIPPED, Template, load_template, parse_template

SMALL = """
complexity: standard
published: {weeks_min: 1, weeks_max: 2, systems: 1, custom_workflows: 0}
gates:
  - {id: kickoff, title: Kickoff, owner: us, days: {best: 1, likely: 1, worst: 2}}
  - {id: login, title: Login, owner: customer, each: system, needs: [kickoff],
     days: {best: 1, likely: 1, worst: 2}}
  - {id: go-live, title: Live, owner: us, needs: [login], days: {best: 3, likely: 3, worst: 3}}
"""


def refused(text: str) -> str:
    with pytest.raises(PlanError) as caught:
        parse_template(text, "own.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("complexity", COMPLEXITIES)
def test_the_shipped_templates_are_valid_and_stand_by_the_published_weeks(complexity):
    published = load_template(complexity).published
    weeks = {"standard": (1, 2), "custom": (2, 6), "enterprise": (6, 10)}
    assert (published.weeks_min, published.weeks_max) == weeks[complexity]


def test_a_template_that_says_at_once_by_its_old_name_is_read():
    said = "lanes: {system: 4, workflow: 3}"
    template = parse_template(f"{SMALL}{said}")
    assert (template.at_once.system, template.at_once.workflow) == (4, 3)
    assert template == parse_template(f"{SMALL}{said.replace('lanes', 'at_once')}")
    assert "lanes" in refused(f"{SMALL}{said}\nat_once: {{system: 1}}")


def test_the_shipped_schema_is_the_one_that_decides():
    assert json.loads((SHIPPED / "schema.json").read_text()) == Template.model_json_schema()


def test_a_small_template_is_enough():
    assert [gate.id for gate in parse_template(SMALL).gates] == ["kickoff", "login", "go-live"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("owner: us, days", "days", "own.yaml gates[kickoff].owner: field required"),
        ("owner: customer", "owner: nobody", "own.yaml gates[login].owner: "),
        ("best: 1", "best: -1", "own.yaml gates[kickoff].days.best: "),
        ("worst: 2", "worst: 0.5", "own.yaml gates[kickoff].days: best 1, likely 1, worst 0.5"),
        ("worst: 2", "worst: .inf", "own.yaml gates[kickoff].days.worst: "),
        ("worst: 2", "worst: .nan", "own.yaml gates[kickoff].days.worst: "),
        ("worst: 2", "worst: 9999", "own.yaml gates[kickoff].days.worst: "),
        ("needs: [kickoff]", "needs: [nothing]", "own.yaml gates[login].needs: there is no gate"),
        ("needs: [kickoff]", "needs: [go-live]", "go round in a circle: "),
        ("needs: [kickoff]", "needs: [login]", "go round in a circle: login → login"),
        ("needs: [kickoff]", "needs_first: [kickoff]", "own.yaml gates[login].needs_first: "),
        ("id: login", "id: kickoff", "own.yaml gates: kickoff is there twice"),
        ("needs: [login]", "needs: [kickoff]", "own.yaml gates[login]: nothing needs it"),
        ("id: go-live", "id: live", "own.yaml gates: there must be one gate go-live"),
        ("title: Kickoff", "title: ''", "own.yaml gates[kickoff].title: "),
        ("title: Kickoff", 'title: "a\\nb"', "own.yaml gates[kickoff].title: "),
        ("id: kickoff", "id: ../etc", "own.yaml gates[../etc].id: "),
        ("title: Live", "title: Live, check: magic", "own.yaml gates[go-live].check: "),
        ("title: Live", "title: Live, colour: red", "own.yaml gates[go-live].colour: "),
        ("weeks_min: 1", "weeks_min: 3", "own.yaml published: weeks_min is over weeks_max"),
        ("complexity: standard", "complexity: huge", "own.yaml complexity: "),
        ("complexity: standard", "complexity: [", "own.yaml: is not YAML"),
    ],
)
def test_a_bad_template_is_refused_with_field_and_reason(old, new, message):
    assert old in SMALL
    assert message in refused(SMALL.replace(old, new, 1))


def test_a_longer_circle_is_shown_whole():
    text = SMALL.replace(
        "  - {id: go-live",
        textwrap.indent(
            "- {id: a, title: A, owner: us, needs: [b], days: {best: 1, likely: 1, worst: 1}}\n"
            "- {id: b, title: B, owner: us, needs: [a, login], "
            "days: {best: 1, likely: 1, worst: 1}}\n",
            "  ",
        )
        + "  - {id: go-live",
    ).replace("needs: [login], days: {best: 3", "needs: [a], days: {best: 3")
    assert "a → b → a" in refused(text)


@given(st.text() | st.binary())
def test_any_text_is_refused_or_valid(text):
    with pytest.raises(PlanError):
        parse_template(text)


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "gates", "days", "owner", "needs"]), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from(["complexity", "published", "at_once", "lanes", "gates"]), values)
def test_any_value_in_any_field_is_refused_or_valid(field, value):
    data = yaml.safe_load(SMALL)
    data[field] = value
    with contextlib.suppress(PlanError):
        parse_template(yaml.safe_dump(data))


def test_a_teams_own_template_replaces_the_shipped_one_and_only_that(tmp_path):
    (tmp_path / "standard.yaml").write_text(SMALL)
    assert len(load_template("standard", tmp_path).gates) == 3
    assert load_template("custom", tmp_path) == load_template("custom")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("custom.yaml", SMALL, "custom.yaml complexity: says standard"),
        ("custom.yaml", "#" * 300_000, "is over 256 KB"),
    ],
    ids=["another's", "large"],  # the text as an id is in the environment of all that is started
)
def test_a_file_that_cannot_be_is_refused_by_its_name(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(PlanError, match=message):
        load_template("custom", tmp_path)
