"""An owner is mentioned in Slack, and called by name elsewhere; never a bare id."""

import pytest

from linekeeper.people import person
from linekeeper.text import Mrkdwn, Plain


@pytest.mark.parametrize(
    ("written", "in_slack", "plain"),
    [
        ("Petra Novak", "Petra Novak", "Petra Novak"),
        ("Petra Novak <U0PETRANOVAK>", "<@U0PETRANOVAK>", "Petra Novak"),
        ("Petra Novak <@U0PETRANOVAK>", "<@U0PETRANOVAK>", "Petra Novak"),
        ("On call <S0ONCALLS>", "<!subteam^S0ONCALLS>", "On call"),
        ("U0PETRANOVAK", "<@U0PETRANOVAK>", "Slack user U0PETRANOVAK"),
        ("S0ONCALLS", "<!subteam^S0ONCALLS>", "Slack group S0ONCALLS"),
        ("petra@ops.example", "petra@ops.example", "petra@ops.example"),
        ("Petra <petra@ops.example>", "Petra &lt;petra@ops.example&gt;", None),
        ("<!channel>", "&lt;!channel&gt;", None),
        ("", "", ""),
    ],
)
def test_an_owner_is_mentioned_in_slack_and_named_elsewhere(
    written: str, in_slack: str, plain: str | None
) -> None:
    assert Mrkdwn().person(written) == in_slack
    assert Plain().person(written) == (written if plain is None else plain)
    assert person(written).shown == (written if plain is None else plain)


def test_nobody_is_nobody() -> None:
    assert person(None).shown == person(" ").shown == ""
