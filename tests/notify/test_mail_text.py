"""What customers read, in every language there is a file for."""

import tomllib
from datetime import datetime
from functools import partial
from html.parser import HTMLParser
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.language import MAILS, language, languages, texts
from linekeeper.notify import mail_text
from linekeeper.notify.mail_text import SystemToLogIn, What, compose

PAGE = "https://line.op.example/customer/token"
SINCE = datetime(2026, 3, 4, 9, 5, tzinfo=ZoneInfo("Europe/Berlin"))


def system(name: str = "SAP ECC", number: int = 1) -> SystemToLogIn:
    return SystemToLogIn(name, SINCE, f"https://line.op.example/connect/token-{number}")


def test_a_lost_login_is_asked_for_with_one_plain_link() -> None:
    mail = compose("ask", "Acme", [system()], until=SINCE)
    assert mail.subject == "Please log in to SAP ECC again"
    assert "SAP ECC of Acme does not accept the stored login any more." in mail.body
    assert "\n\nhttps://line.op.example/connect/token-1\n\n" in mail.body
    assert "no access since 4 March 2026, 09:05 (CET)" in mail.body
    assert "The link is meant for Acme only and works until 4 March 2026, 09:05 (CET)." in mail.body
    assert '<a href="https://line.op.example/connect/token-1"' in mail.html


def test_german_names_the_time_zone_in_german() -> None:
    mail = compose("ask", "Acme", [system()], until=SINCE, locale="de-DE")
    assert "kein Zugang seit 4. März 2026, 09:05 Uhr (MEZ)" in mail.body


@pytest.mark.parametrize("what", ["ask", "remind", "ending", "setup"])
@pytest.mark.parametrize("locale", ["en", "de"])
def test_who_is_asked_is_not_promised_that_no_mail_follows(what: What, locale: str) -> None:
    """The one that thanks them does."""
    body = compose(what, "Acme", [system()], until=SINCE, locale=locale).body
    assert ("no more reminders" if locale == "en" else "erinnern wir Sie nicht mehr") in body


def test_several_systems_are_one_mail_with_a_link_each() -> None:
    many = [system(name, n) for n, name in enumerate(("SAP", "UpKeep", "Maximo", "Fiix"))]
    mail = compose("remind", "Acme", many, until=None)
    assert mail.subject == "Reminder: please log in to SAP, UpKeep and 2 more again"
    assert mail.body.count("/connect/token-") == 4
    assert "The links are meant for Acme only and work." in mail.body
    assert mail.html.count("<a href=") == 4
    assert "Fiix:\n\nhttps://line.op.example/connect/token-3" in mail.body


def test_thanks_ask_for_nothing() -> None:
    mail = compose("thank", "Acme", [system()], until=None)
    assert mail.subject == "SAP ECC is connected again"
    assert "http" not in mail.body


def test_another_language_is_one_more_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mails")
    english = (MAILS / "en.toml").read_text()
    (folder / "en.toml").write_text(english)
    german = english.replace('"March"', '"März"').replace("Hello,", "Guten Tag,")
    (folder / "fr.toml").write_text(german.replace("{day} {month} {year}", "{day}. {month} {year}"))
    locales = ("fr-CH", "fr_FR", "FR", "de", "../../x", "")
    assert [language(locale, folder) for locale in locales] == ["fr", "fr", "fr", None, None, None]
    monkeypatch.setattr(mail_text, "MAILS", folder)
    monkeypatch.setattr(mail_text, "language", partial(language, folder=folder))
    mail_text._words.cache_clear()
    try:
        mail = compose("ask", "Acme", [system()], until=SINCE, locale="fr-CH")
        assert mail.body.startswith("Guten Tag,")
        assert "4. März 2026" in mail.body
        assert '<html lang="fr">' in mail.html
    finally:
        monkeypatch.undo()
        mail_text._words.cache_clear()


def test_every_language_has_every_text() -> None:
    wanted = tomllib.loads((MAILS / "en.toml").read_text())
    for lang in languages():
        there = texts(lang)
        assert there.keys() == wanted.keys(), lang
        assert len(there["months"]) == 12, lang
        for what in get_args(What):
            mail = compose(what, "Acme", [system()], until=SINCE, locale=lang, page=PAGE)
            assert mail.body.rstrip().endswith(PAGE), (lang, what)
            assert "Acme" in mail.body, (lang, what)


@pytest.mark.parametrize("what", get_args(What))
def test_in_english_the_first_sentence_begins_with_a_capital(what: What) -> None:
    mail = compose(what, "Acme", [system()], until=SINCE, page=PAGE)
    assert mail.body.startswith("Hello,\n\n")
    assert mail.body.split("\n\n")[1][0].isupper(), mail.body


@pytest.mark.parametrize("locale", ["en", "de"])
@pytest.mark.parametrize("what", ["ask", "remind", "ending", "setup"])
def test_one_link_is_not_called_several(what: What, locale: str) -> None:
    mail = compose(what, "Acme", [system()], until=SINCE, locale=locale)
    assert "links" not in mail.body.casefold()


@pytest.mark.parametrize("what", ["ask", "remind", "thank", "ending", "setup"])
def test_a_german_customer_is_mailed_in_german(what: What) -> None:
    mail = compose(what, "Acme", [system()], until=SINCE, locale="de-CH", page=PAGE)
    assert mail.body.startswith("Guten Tag,")
    assert "Hello" not in mail.body
    assert '<html lang="de">' in mail.html
    assert ("4. März 2026" in mail.body) is (what != "thank")


@pytest.mark.parametrize("locale", ["en", "de"])
def test_a_second_mail_says_that_it_is_about_one_more_login(locale: str) -> None:
    first, second = (
        compose("ask", "Acme", [system()], until=SINCE, locale=locale, is_also=is_also)
        for is_also in (False, True)
    )
    assert second.subject != first.subject
    assert len(second.body) > len(first.body)


@pytest.mark.parametrize("locale", ["en", "de"])
@pytest.mark.parametrize("is_new", [False, True])
def test_after_the_first_paragraph_each_begins_with_a_capital(locale: str, *, is_new: bool) -> None:
    lost = SystemToLogIn("SAP ECC", SINCE, "https://line.op.example/connect/token-1", is_new)
    for is_also in (False, True):
        mail = compose("ask", "Acme", [lost], until=SINCE, locale=locale, is_also=is_also)
        for paragraph in mail.body.split("\n\n")[2:]:
            assert paragraph[0].isupper() or paragraph.startswith("https:"), paragraph


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]


@given(customer=st.text(max_size=500), name=st.text(max_size=500))
def test_no_name_breaks_out_of_the_mail(customer: str, name: str) -> None:
    evil = "<script>alert(1)</script>{{ 7*7 }}\r\nBcc: all@x.example"
    mail = compose("ask", customer + evil, [system(name + evil)], until=SINCE)
    assert "\n" not in mail.subject
    assert "\r" not in mail.subject + mail.body
    tags = _Tags()
    tags.feed(mail.html)
    assert "script" not in tags.seen
    assert tags.links == ["https://line.op.example/connect/token-1"]


def test_german_bends_what_stands_for_the_names_that_are_not_said() -> None:
    names = ("SAP", "UpKeep", "Maximo", "Fiix", "eMaint")
    anew = [SystemToLogIn(name, SINCE, "https://x.example/c/t", is_new=True) for name in names]
    asked = compose("ask", "Acme", anew, until=SINCE, locale="de")
    assert "SAP, UpKeep und 3 weitere von Acme wurden bei Makini neu verbunden" in asked.body
    assert asked.subject.endswith("bei SAP, UpKeep und 3 weiteren an")
    lost = compose("ask", "Acme", [system(name) for name in names], until=SINCE, locale="de")
    assert "von Acme bei SAP, UpKeep und 3 weiteren werden nicht mehr angenommen" in lost.body
    thanks = compose("thank", "Acme", anew, until=None, locale="de")
    assert "mit SAP, UpKeep und 3 weiteren steht wieder" in thanks.body
    setup = compose("setup", "Acme", anew, until=SINCE, locale="de")
    assert setup.subject == "Bitte verbinden Sie SAP, UpKeep und 3 weitere"
    assert (
        compose("setup", "A", [], until=None, locale="de").subject
        == "Bitte verbinden Sie Ihr System"
    )


@pytest.mark.parametrize(
    ("locale", "written"),
    [("de-AT", "31. Jänner 2026"), ("de_at", "31. Jänner 2026"), ("de-CH", "31. Januar 2026")],
)
def test_in_austria_january_is_called_as_it_is_there(locale: str, written: str) -> None:
    """All else is as in German: a region's file holds only what differs."""
    until = SINCE.replace(month=1, day=31)
    mail = compose("ending", "Acme", [system()], until=until, locale=locale)
    assert f"erneuern Sie vor dem {written} die Anmeldung" in mail.subject
    assert "4. März 2026, 09:05 Uhr (MEZ)" in mail.body


@pytest.mark.parametrize("what", ["ask", "remind", "setup"])
@pytest.mark.parametrize(
    ("locale", "said"),
    [("en", "until 4 March 2026, 09:05 (CET)."), ("de", "bis 4. März 2026, 09:05 Uhr (MEZ).")],
)
def test_the_hour_is_said_at_which_a_link_ends(what: What, locale: str, said: str) -> None:
    """`until 4 March` reads as if it still worked on that afternoon."""
    assert said in compose(what, "Acme", [system()], until=SINCE, locale=locale).body


@pytest.mark.parametrize("what", ["ask", "remind", "ending"])
@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize(
    ("locale", "of_one"),
    [
        ("en", ("this system", "new connection:", "the link below", "read from it ")),
        ("de", ("dieses System", "neuen Verbindung ", "den Link unten", "hinterlegte Anmeldung ")),
    ],
)
def test_several_systems_are_not_spoken_of_as_one(
    what: What, is_new: bool, locale: str, of_one: tuple[str, ...]
) -> None:
    both = [SystemToLogIn(name, SINCE, "https://x.example/c/t", is_new) for name in ("SAP", "Fiix")]
    body = compose(what, "Acme", both, until=SINCE, locale=locale).body
    assert [said for said in of_one if said in body] == []
