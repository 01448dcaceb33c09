"""Text from outside in Slack's messages."""

import pytest

from linekeeper.text import Mrkdwn


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
