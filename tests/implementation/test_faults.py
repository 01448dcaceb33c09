"""What a form is told of all that can not be."""

import pytest

from linekeeper.implementation.scope import FormErrors, PlanError


def test_a_form_is_told_of_all_its_fields_by_the_names_it_has_for_them() -> None:
    faults = FormErrors()
    faults.of(lambda: refuse(PlanError("gate", "it is done already")))
    for _ in range(2):
        faults.of(lambda: refuse(PlanError("date", "it is past", ("reason", "say why"))))
    with pytest.raises(PlanError) as caught:
        faults.end()
    named = caught.value.named({"gate": "step", "date": "due"})
    assert named.field == "step"
    assert str(named) == "step: it is done already; due: it is past; reason: say why"


def refuse(error: PlanError) -> None:
    raise error
