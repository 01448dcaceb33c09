"""What the digest measures and says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from linekeeper.notify.view import Links
from linekeeper.text import width
from linekeeper.views.digest_measures import Life, measure
from linekeeper.views.digest_page import headline, markdown, slack_text
from linekeeper.views.digest_queries import Day

NOW = datetime(2026, 3, 5, 7, 0, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def life(number: int, *, kind: str = "unreachable", began: int = 600, **more: object) -> Life:
    """An incident that began so many minutes ago and was notified at once."""
    opened = NOW - began * MINUTE
    fields = {
        "message": f"m{number}",
        "notified_at": opened,
        "signs_at": opened - 10 * MINUTE,
    } | more
    if isinstance(lasted := fields.pop("lasted", None), int):
        fields["resolved_at"] = opened + lasted * MINUTE
    if isinstance(taken := fields.pop("taken", None), int):
        fields["acknowledged_at"] = opened + taken * MINUTE
    return Life(f"i{number}", kind, f"Acme · {number}", "normal", opened, **fields)  # type: ignore[arg-type]


def day(*lives: Life) -> Day:
    return Day(
        since=NOW - DAY,
        now=NOW,
        lives=lives,
        fleet={"healthy": 98, "unreachable": 2},
        trust={"good": 40, "bad": 1, "none": 1},
        distrusted=["SAP <!channel>"],
        expiring=1,
        running=2,
        slips=["Globex: go-live slips by 3 days"],
    )


def test_times_and_shares_are_those_of_root_causes() -> None:
    lives = [
        life(1, lasted=10),  # a false alarm
        life(2, lasted=60, taken=20),
        life(3, kind="reauthorization_required", lasted=120, by_customer=True),
        life(4),
        life(5, merged=True, lasted=5, message="m4"),
        life(6, withheld="maintenance", notified_at=None, message=None, lasted=5),
        life(7, began=3 * 1440, lasted=2 * 1440 + 60),  # older, ended today
    ]
    found = measure(lives, since=NOW - DAY, now=NOW)
    assert (found.opened, found.resolved, found.open, found.withheld) == (5, 5, 1, 1)
    assert found.messages == 4
    assert found.detect is not None
    assert found.detect.median == 10 * MINUTE
    assert found.reconnect is not None
    assert found.reconnect.worst == 120 * MINUTE
    assert found.alone == 3 / 5
    assert found.acknowledged == 1 / 4
    assert found.acknowledge is not None
    assert found.acknowledge.median == 20 * MINUTE
    assert found.false_alarm_share == 1 / 4


def test_a_quiet_day_says_so() -> None:
    assert headline(replace(day(), fleet={"healthy": 100})) == (
        "Digest: all healthy, nothing happened"
    )


def test_the_message_tells_what_is_new_open_and_ahead() -> None:
    said = slack_text(day(life(1, lasted=60), life(2, began=3 * 1440)), Links(ui_url="http://ui"))
    assert said.startswith("*Digest: 1 new incident, 1 resolved, 1 open*")
    assert "• Acme · 1 — Unreachable: resolved after 1 h" in said
    assert "*Open for longer* Acme · 2" in said
    assert "*Webhook trust* 40 of 42 can be relied on: SAP" in said
    assert "Globex: go-live slips by 3 days" in said
    assert "First messages" not in said  # what nobody acts on is on the page alone
    assert "<!channel>" not in said
    assert "http://ui/artifacts/key/digest" in said


def test_a_large_fleet_is_counted_as_everywhere_else() -> None:
    said = slack_text(replace(day(), fleet={"healthy": 900, "unreachable": 1_100}), Links())
    assert "*Fleet* 2,000 live connections, 1,100 not healthy" in said


def test_the_artifact_has_measures_and_charts() -> None:
    written = markdown(day(life(1, lasted=60, taken=5)))
    assert written.count("data:image/svg+xml") == 2
    assert "| Time to acknowledge | 5 min (worst 5 min) | 5 min (worst 5 min) |" in written


@given(
    st.lists(
        st.tuples(st.text(max_size=600), st.integers(0, 20_000), st.none() | st.integers(0, 900)),
        max_size=60,
    )
)
def test_whatever_happened_the_message_fits_and_calls_nobody(
    many: list[tuple[str, int, int | None]],
) -> None:
    lives = [
        Life(
            id=str(n),
            kind="unreachable",
            title=title + "<!here> @channel",
            severity="normal",
            opened_at=NOW - began * MINUTE,
            resolved_at=None if lasted is None else NOW - began * MINUTE + lasted * MINUTE,
            notified_at=NOW - began * MINUTE,
            message=str(n),
        )
        for n, (title, began, lasted) in enumerate(many)
    ]
    said = slack_text(day(*lives), Links(ui_url="http://ui"))
    assert width(said) <= 3_000
    assert "<!here" not in said
    assert "@channel" not in said
    assert markdown(day(*lives))
