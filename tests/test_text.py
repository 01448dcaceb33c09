"""Text from outside in Slack's messages, and numbers with their nouns."""

import pytest

from linekeeper.text import Mrkdwn, counted


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("*bold* ~gone~ `code`", "∗bold∗ ∼gone∼ 'code'"),
        ("_leaning_ and erp_prod_1", "\uff3fleaning\uff3f and erp_prod_1"),
        ("[click](http://x.example) <!here>", "[click](http://x.example) &lt;!here&gt;"),
    ],
)  # fmt: skip
def test_no_markup_comes_out_of_a_name(raw: str, said: str) -> None:
    assert Mrkdwn().text(raw) == said


def test_a_code_stays_what_it_is() -> None:
    assert Mrkdwn().code("a*b_c~d`e") == "`a*b_c~d'e`"


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, "record", "1 record"),
        (0, "record", "0 records"),
        (1234, "entity", "1,234 entities"),
        (2, "key", "2 keys"),
    ],
)
def test_a_number_stands_with_its_noun(number: int, noun: str, said: str) -> None:
    assert counted(number, noun) == said
