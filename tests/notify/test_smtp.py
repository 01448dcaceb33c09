"""One mail and one real mail server: who gets it, and whom a refusal concerns."""

import pytest
from pydantic import SecretStr

from linekeeper.config import MailConfig
from linekeeper.notify.smtp import Delayed, Letter, MailRefused, hand_over, on_the_wire
from linekeeper.store import new_id
from tests.reconnect.post import Post, listening

UMLAUT = "jörg@example.org"


async def send(post: Post, *recipients: str, sender: str = "Line <line@op.example>") -> list[str]:
    """Whom the server did not take it for."""
    account = MailConfig(smtp_url=SecretStr(post.url), sender=sender)
    letter = Letter(recipients, "Please log in", "Your link", "<p>Your link</p>", "incident.acme")
    return await hand_over(account, letter, "outbox-7")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ann@acme.example", "ann@acme.example"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@STRASSE.example", "ann@STRASSE.example"),
        ("ann@straße.example", "ann@xn--strae-oqa.example"),
        ("jörg@bücher.example", "jörg@xn--bcher-kva.example"),
        ("ann@例え.テスト", "ann@xn--r8jz45g.xn--zckzah"),
        ("ann@\u2028.example", "ann@\u2028.example"),
        ("nobody", "nobody"),
    ],
)
def test_a_domain_of_any_letters_is_one_that_mail_servers_know(address: str, expected: str) -> None:
    assert on_the_wire(address) == expected


async def test_a_domain_of_any_letters_gets_its_mail_from_every_server() -> None:
    async with listening() as post:
        sender = "Line <line@bücher.example>"
        assert await send(post, "ann@bücher.example", "bob@acme.example", sender=sender) == []
        [mail] = post.mails
    assert mail["To"] == "ann@xn--bcher-kva.example, bob@acme.example"
    assert mail["From"] == "Line <line@xn--bcher-kva.example>"


async def test_a_senders_name_with_a_comma_in_it_is_no_second_address() -> None:
    async with listening() as post:
        assert await send(post, "bob@acme.example", sender="Acme, Inc. <it@acme.example>") == []
        [mail] = post.mails
        assert post.senders == ["it@acme.example"]
    assert mail["From"] == '"Acme, Inc." <it@acme.example>'
    assert mail["Message-ID"] == "<outbox-7@acme.example>"


@pytest.mark.parametrize("sender", ["", "IT Team", "IT <>", "IT <it@>"])
async def test_a_mail_waits_where_the_sender_is_no_address(sender: str) -> None:
    async with listening() as post:
        with pytest.raises(Delayed, match="the sender is no address") as delayed:
            await send(post, "bob@acme.example", sender=sender)
    assert (delayed.value.everything, post.mails) == (True, [])


@pytest.mark.parametrize(("letters", "untaken"), [(False, [UMLAUT]), (True, [])])
async def test_an_address_with_other_letters_gets_its_mail_where_the_server_takes_such(
    letters: bool, untaken: list[str]
) -> None:
    async with listening(letters=letters) as post:
        assert await send(post, UMLAUT, "bob@acme.example") == untaken
        [mail] = post.mails
    assert (UMLAUT in mail["To"]) == letters
    assert "bob@acme.example" in mail["To"]


async def test_what_mail_programs_thread_by_stays_as_it_is_however_long() -> None:
    """Longer than a line, it was sent as an encoded word, which no mail program decodes there."""
    thread = f"{new_id()}.{new_id()}"
    domain = "mail-for-customers.a-department.of-a-company.example"
    async with listening() as post:
        account = MailConfig(smtp_url=SecretStr(post.url), sender=f"Line <line@{domain}>")
        letter = Letter(["ann@acme.example"], "Please log in", "Your link", "<p></p>", thread)
        await hand_over(account, letter, "outbox-7")
        [raw] = post.raw
    assert f"References: <{thread}@{domain}>\r\n".encode() in raw
    assert f"Message-ID: <outbox-7@{domain}>\r\n".encode() in raw


async def test_where_no_address_is_left_the_mail_is_refused_and_no_other() -> None:
    async with listening() as post:
        with pytest.raises(MailRefused, match="no address with other letters than ASCII"):
            await send(post, UMLAUT)
        assert await send(post, "bob@acme.example") == []
    assert len(post.mails) == 1


async def test_refusals_are_named_as_the_operator_knows_them() -> None:
    async with listening() as post:
        post.refuse = "xn--"
        untaken = await send(post, UMLAUT, "ann@bücher.example", "bob@acme.example")
    assert untaken == ["ann@bücher.example", UMLAUT]


@pytest.mark.parametrize("answer", ["554 5.7.1 looks like spam", "552 5.3.4 too large"])
async def test_what_a_server_says_of_a_mails_content_concerns_that_mail(answer: str) -> None:
    async with listening() as post:
        post.answer = answer
        with pytest.raises(MailRefused, match=f"refused the mail \\({answer[:3]}\\)"):
            await send(post, "bob@acme.example")


async def test_a_server_that_takes_nothing_now_delays_everything() -> None:
    async with listening() as post:
        post.answer = "451 try later"
        with pytest.raises(Delayed, match="answered 451") as caught:
            await send(post, "bob@acme.example")
    assert caught.value.everything
