"""Whatever is in a message: Slack's limits hold, and nobody gets a mention through."""

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from linekeeper.notify import compose, compose_others
from linekeeper.notify.compose_others import group, plain_group
from linekeeper.notify.merged import Wider
from linekeeper.notify.steps import Step
from linekeeper.notify.view import MEMBERS_SHOWN, IncidentView, MemberView
from linekeeper.text import width
from sandbox.slack import check_blocks
from tests.notify.test_compose import LINKS, texts

nasty = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("&<>@!`*_~|\n\u202e\u2066\u0623😀\u200d:")),
    max_size=700,
) | st.sampled_from(
    ["&" * 600, "😀" * 400, "ש" * 600, "<!channel>", "@here", "U012ABCDEF", "<!subteam^S1>"]
)


maybe = st.none() | nasty


times = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001  hypothesis adds the zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


members = st.builds(
    MemberView,
    connection_id=nasty,
    name=nasty,
    slug=nasty,
    makini_key=nasty,
    provider=nasty,
    health=nasty,
    kind=nasty,
    left_at=st.none() | times,
    customer=maybe,
    owner=maybe,
    critical=st.booleans(),
    code=maybe,
    message=maybe,
    request_id=maybe,
)


pages = st.sampled_from(["fleet", "connection-acme-sap-ecc-k1"])


views = st.builds(
    IncidentView,
    id=nasty,
    kind=st.sampled_from(["unreachable", "reauthorization_required", "list_failed"]) | nasty,
    scope=st.sampled_from(["connection", "provider", "app"]) | nasty,
    app=nasty,
    provider=nasty,
    title=nasty,
    status=nasty,
    revision=st.integers(0, 9),
    opened_at=times,
    acknowledged_at=st.none() | times,
    acknowledged_by=maybe,
    resolved_at=st.none() | times,
    merged_into=st.none() | st.builds(Wider, title=nasty, name=nasty, page=pages),
    members=st.one_of(
        st.lists(members, max_size=3), members.map(lambda member: [member] * MEMBERS_SHOWN)
    ).map(tuple),
    member_count=st.integers(0, 20_000),
    recovered_count=st.integers(0, 20_000),
    code=maybe,
    message=maybe,
    request_id=maybe,
    run_id=maybe,
    summary=nasty,
)


_OURS = re.compile(
    r"<!date\^-?\d+\^[^<>|]*\|[^<>|]*>|<@[UW][A-Z0-9]+>|<!subteam\^S[A-Z0-9]+>"
    r"|<http[^<>|]*\|[A-Z][a-z ]+>"
)


@given(view=views, now=times)
def test_no_view_whatever_breaks_slacks_limits_or_gets_a_mention_through(
    view: IncidentView, now: datetime
) -> None:
    rendered = compose.incident(view, now=now, links=LINKS)
    check_blocks(list(rendered.blocks))
    assert width(rendered.text) <= 3000
    for text in [*texts(rendered.blocks), rendered.text]:
        assert width(text) <= 3000
        left = _OURS.sub("", text)
        assert "<" not in left
        assert ">" not in left
        assert not re.search(r"@(channel|here|everyone)\b", left, re.IGNORECASE)
        assert not set(text) & set("\u202a\u202b\u202d\u202e\u2066\u2067\x00\r")
        text.encode()
    plain = compose.plain(view, now=now, links=LINKS)
    assert len(plain) < 40_000
    plain.encode()


@given(text=nasty)
def test_no_text_of_its_own_breaks_the_limits(text: str) -> None:
    rendered = compose.note(text)
    check_blocks(list(rendered.blocks))
    assert "<" not in rendered.text
    assert width(rendered.text) <= 3000


@given(
    many=st.lists(views, max_size=4).flatmap(
        lambda some: st.integers(1, 40).map(lambda times: some * times)
    ),
    step=st.sampled_from(
        [Step("reminder", 3), Step("escalation"), Step("first"), Step("resolved")]
    ),
    why=nasty,
    now=times,
)
def test_no_message_about_several_and_no_reminder_breaks_the_limits_either(
    many: list[IncidentView], step: Step, why: str, now: datetime
) -> None:
    rendered = [group("morning", many, links=LINKS), group("cap", many)]
    rendered += [compose_others.reminder(view, step, why, now=now) for view in many[:3]]
    for message in rendered:
        check_blocks([dict(block) for block in message.blocks])
        said = message.text + str(message.blocks)
        assert width(message.text) <= 3_000
        assert not re.search(r"<!(?!date|subteam)", said)
        assert not re.search(r"@(channel|here|everyone)", said)
    assert plain_group("cap", many)
