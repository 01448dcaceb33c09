"""What the doctor says of mail to customers, with a real SMTP server."""

from pydantic import SecretStr

from linekeeper.config import AppConfig, Configuration, MailConfig
from linekeeper.doctor.notices import examine_mail
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Outbox
from tests.reconnect.post import listening


def account(url: str) -> Configuration:
    return Configuration(mail=MailConfig(smtp_url=SecretStr(url), sender="line@op.example"))


async def test_an_account_in_order_is_said_to_be_and_nothing_is_sent(store: Store) -> None:
    async with listening() as post:
        [found] = await examine_mail(store, account(post.url), seconds=5)
    assert (found.level, found.fix) == ("ok", "")
    assert post.mails == []


async def test_a_server_that_is_away_or_takes_no_login_is_named_without_the_password(
    store: Store,
) -> None:
    async with listening() as post:
        secret = f"smtp://line:very-secret@127.0.0.1:{post.port}"
        [refused] = await examine_mail(store, account(secret), seconds=5)
    [away] = await examine_mail(store, account(secret), seconds=5)
    assert (refused.level, away.level) == ("wrong", "wrong")
    assert "AUTH" in refused.text
    assert "very-secret" not in f"{refused} {away}"


async def test_a_sender_that_is_no_address_is_pointed_out(store: Store) -> None:
    async with listening() as post:
        mail = MailConfig(smtp_url=post.secret, sender="IT Team")
        [found] = await examine_mail(store, Configuration(mail=mail), seconds=5)
    assert (found.name, found.level) == ("mail · sender", "wrong")
    assert "IT Team" in found.text


async def test_what_was_not_taken_is_said_until_it_is(store: Store) -> None:
    async with store.write() as session:
        for status, error in (("pending", "the mail server answered 451"), ("dead", "refused")):
            identifier = new_id()
            session.add(
                Outbox(
                    id=identifier,
                    seq=identifier,
                    channel="email",
                    dedupe_key=identifier,
                    ordering_key=identifier,
                    payload={},
                    status=status,
                    error=error,
                )
            )
    async with listening() as post:
        findings = await examine_mail(store, account(post.url), seconds=5)
    assert [finding.text for finding in findings[1:]] == [
        "1 not taken yet: the mail server answered 451",
        "1 in 7 days: refused",
    ]


async def test_customers_who_are_to_be_told_without_an_account_are_pointed_out(
    store: Store,
) -> None:
    assert await examine_mail(store, Configuration(), seconds=5) == []
    configuration = Configuration(apps={"default": AppConfig(notify_customers=True)})
    [found] = await examine_mail(store, configuration, seconds=5)
    assert found.level == "wrong"
