"""Every assumption is found to hold, or not to, on a Makini that differs in that one way."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from linekeeper.access.links import make_link
from linekeeper.access.login import Attempt
from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.verify_account.question import Confirmation
from linekeeper.verify_account.recording import Exchange, read_recording
from linekeeper.verify_account.service import WriteNotConfirmed, answer_all
from sandbox.quirks import QUIRKS
from tests.verify_account.conftest import Account

Open = Callable[..., Awaitable[Account]]
ODD = {
    "relative-expiry": "token-expiry",
    "no-app-routes": "app-routes",
    "page-ignored": "list-paging",
    "per-page-ignored": "list-per-page",
    "no-total": "list-total",
    "total-too-high": "list-total",
    "fields-renamed": "list-fields",
    "status-renamed": "status-words",
    "times-coarse": "list-times",
    "errors-bare": "error-unauthorized",
    "unknown-is-400": "error-not-found",
    "sync-renamed": "sync-status",
    "keys-numbers": "record-key",
    "no-updated-at": "record-times",
    "filter-ignored": "changed-since",
    "sort-ignored": "sort",
    "no-single-record": "one-record",
}


async def test_without_a_token_only_the_list_is_read(open_account: Open) -> None:
    account = await open_account()
    before = dict(account.makini.world.calls)
    answers = await account.answers()
    made = {call for call, n in account.makini.world.calls.items() if n != before.get(call)}
    assert {method for method, path in made if path.startswith("/api/")} == {"GET"}
    assert not any(path.startswith(("/api/integrations", "/api/eam")) for _, path in made)
    assert answers["list-paging"].verdict is Confirmation.seen_so
    assert answers["sync-status"].verdict is Confirmation.not_seen
    assert answers["mint-lifetime"].verdict is Confirmation.not_seen


async def test_with_borrowed_tokens_records_are_read_and_nothing_is_written(
    open_account: Open,
) -> None:
    account = await open_account()
    await account.borrow_tokens()
    before = dict(account.makini.world.calls)
    found = await account.verify(data=True)
    made = {call for call, n in account.makini.world.calls.items() if n != before.get(call)}
    assert {method for method, path in made if path.startswith("/api/")} == {"GET"}
    by_name = {answer.question: answer for answer in found.answers}
    expected = {"sync-status", "record-key", "record-times", "changed-since", "sort", "filter-key"}
    for name in expected | {"one-record"}:
        assert by_name[name].verdict is Confirmation.seen_so, by_name[name]
    assert found.settings["MAKINI_SINCE"] == "filter"
    assert found.settings["MAKINI_PAGING"] == "page"


@pytest.mark.parametrize(("quirk", "question"), ODD.items())
async def test_each_way_of_being_wrong_is_found(
    open_account: Open, quirk: str, question: str
) -> None:
    account = await open_account(quirks=frozenset({quirk}))
    await account.borrow_tokens()
    answers = await account.answers(data=True)
    assert answers[question].verdict is Confirmation.seen_otherwise, answers[question]


async def test_every_quirk_is_asked_about() -> None:
    assert set(QUIRKS) == {*ODD, "links-whole", "limit-stated"}


async def test_what_is_stated_is_seen(open_account: Open) -> None:
    account = await open_account(quirks=frozenset({"links-whole", "limit-stated"}))
    found = await account.verify()
    by_name = {answer.question: answer.verdict for answer in found.answers}
    assert by_name["list-links"] is by_name["rate-limit"] is Confirmation.seen_so
    assert found.settings["MAKINI_PER_MINUTE"] == "300"


async def test_a_list_by_cursor_is_found(open_account: Open) -> None:
    account = await open_account()
    account.makini.world.faults.paging = "cursor"
    found = await account.verify()
    assert found.settings["MAKINI_PAGING"] == "cursor"


async def test_an_id_that_is_not_the_key_is_found(open_account: Open) -> None:
    account = await open_account(distinct_ids=True, listed_ids=False)
    await account.borrow_tokens()
    answers = await account.answers(data=True)
    assert answers["id-is-key"].verdict is Confirmation.seen_otherwise


async def test_modified_after_is_found_where_the_filter_is_refused(open_account: Open) -> None:
    account = await open_account()
    await account.borrow_tokens()
    account.makini.world.faults.since = "modified_after"
    assert (await account.verify(data=True)).settings["MAKINI_SINCE"] == "modified_after"


async def test_minting_needs_the_key_twice(open_account: Open) -> None:
    account = await open_account()
    [first, *_] = await account.borrow_tokens()
    with pytest.raises(WriteNotConfirmed):
        await account.verify(write_on=first.makini_key, confirm="yes")
    assert not any(path.endswith("{key}/token") for _, path in account.makini.world.calls)


@pytest.mark.parametrize(("shape", "kept"), [("token", True), ("pair", False)])
async def test_whether_minting_ends_other_tokens_is_seen_on_the_one_connection(
    open_account: Open, shape: str, kept: bool
) -> None:
    account = await open_account(mint_shape=shape)
    [first, *_] = await account.borrow_tokens()
    answers = await account.answers(write_on=first.makini_key, confirm=first.makini_key)
    said = Confirmation.seen_so if kept else Confirmation.seen_otherwise
    assert answers["mint-keeps"].verdict is answers["mint-lifetime"].verdict is said
    minted = account.makini.world.calls["POST", "/api/system/connections/{key}/token"]
    assert minted == 1


async def test_a_run_that_stopped_goes_on_and_asks_nothing_twice(open_account: Open) -> None:
    account = await open_account()
    first = await account.verify(calls=6)
    assert not first.complete
    second = await account.verify()
    assert second.complete
    whole = await account.verify()
    assert whole.calls == 0
    assert whole.answers == second.answers
    assert first.calls + second.calls < 25


async def test_the_recording_holds_nothing_of_anybody_and_gives_the_same_answers(
    open_account: Open,
) -> None:
    account = await open_account()
    rows = await account.borrow_tokens()
    found = await account.verify(data=True)
    text = Path(found.recording).read_text()
    world = account.makini.world
    for row in rows:
        connection = world.find(row.makini_key)
        assert connection is not None
        pair = world.tokens.current(connection)
        assert pair is not None
        names = [connection.name, connection.customer, connection.email, connection.key]
        for secret in [*names, pair.access, pair.refresh]:
            assert secret not in text
    for collection in world.records.of(connection).values():
        for value in collection.body(0).values():
            if isinstance(value, str) and len(value) > 6 and not value.endswith("Z"):
                assert value not in text
    assert world.settings.client_secret not in text
    assert answer_all(read_recording(Path(found.recording))) == list(found.answers)
    assert Path(found.recording).stat().st_mode & 0o077 == 0


def test_webhooks_about_connections_say_nothing_of_record_events() -> None:
    def event(name: str, **body: object) -> Exchange:
        whole = {"event": name, **body}
        return Exchange("webhooks", "app", "WEBHOOK", "", {}, 0, body=whole, note=name)

    lost = event("connection.auth_required", connection_id="c1")
    asked = ("event-names", "event-connection")
    found = {answer.question: answer.verdict for answer in answer_all([lost])}
    assert {found[key] for key in asked} == {Confirmation.not_seen}
    found = {
        answer.question: answer.verdict for answer in answer_all([lost, event("assets.updated")])
    }
    assert {found[key] for key in asked} == {Confirmation.seen_so}


@pytest.mark.parametrize("status", ["401", "500"])
async def test_what_makini_did_not_answer_is_not_said_of_the_account_and_asked_again(
    open_account: Open, status: str
) -> None:
    account = await open_account()
    account.makini.world.faults.admin_list = status
    found = await account.verify()
    answers = {answer.question: answer for answer in found.answers}
    of_the_list = {name: answer for name, answer in answers.items() if name.startswith("list-")}
    assert {answer.verdict for answer in of_the_list.values()} == {Confirmation.not_seen}
    assert not any(answer.evidence.startswith("the list has") for answer in answers.values())
    assert not found.complete
    assert any(status in line for line in found.unanswered)
    account.makini.world.faults.admin_list = ""
    again = await account.verify()
    assert again.complete
    assert not again.unanswered
    by_name = {answer.question: answer.verdict for answer in again.answers}
    assert by_name["list-paging"] is by_name["list-total"] is Confirmation.seen_so


async def test_logins_that_kept_their_connection_are_counted(open_account: Open) -> None:
    account = await open_account()
    first, second, *_ = await account.borrow_tokens()
    for connection in (first, first, second):
        async with account.rt.store.write() as session:
            link = await make_link(
                session,
                app="default",
                connection_id=connection.id,
                customer_id=None,
                system=connection.provider,
                by="tests",
                now=utcnow(),
            )
        there = account.makini.world.find(connection.makini_key)
        assert there is not None
        held = account.makini.world.tokens.pair(there)
        ending = await Attempt(account.rt, link, None).take(TokenPair(held.access, held.refresh))
        assert ending.how == "done"
    answer = (await account.answers())["login-keeps"]
    assert answer.verdict is Confirmation.seen_so
    assert answer.evidence.startswith("3 logins kept the connection, 0 ")
