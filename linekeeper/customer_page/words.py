"""The words of the customer's pages: one file a language, English where there is none for a
locale."""

from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from typing import Any

from linekeeper.language import ENGLISH, PAGES, language, texts


class Words:
    """What the pages say in one language."""

    def __init__(self, language: str, said: Mapping[str, Any]) -> None:
        self.language = language
        self._texts = said

    def say(self, part: str, name: str, **values: str) -> str:
        """The text `name` of a part of the file, with `values` filled in."""
        text: str = self._texts[part][name]
        return text.format(**values)

    def of_system(self, part: str, name: str, system: str, **values: str) -> str:
        """The same about `system`. One without a name is called as the language does: in a text as
        `{system}`, and as `{at_system}` where the language bends it (German: bei Ihrem System)."""
        if system:
            return self.say(part, name, system=system, at_system=system, **values)
        stand_ins = {each: self.say("nameless", each) for each in ("system", "at_system")}
        text = self.say(part, name, **stand_ins, **values)
        return text[:1].upper() + text[1:]

    def name(self, part: str, name: str, default: str) -> str:
        """The name of a state, step or time zone; `default` where the language has none for it."""
        word: str = self._texts[part].get(name, default)
        return word

    def moment(self, at: datetime) -> str:
        """A time, as the language writes it."""
        return self._written(at, "moment")

    def moment_and_zone(self, at: datetime) -> str:
        """The same with the name of its zone, for a page that doesn't say elsewhere which it is."""
        zone = f"{at:%Z}"
        return f"{self.moment(at)} {self.name('zones', zone, zone)}"

    def day(self, at: date) -> str:
        """A day, as the language writes it."""
        return self._written(at, "day")

    def _written(self, at: date, form: str) -> str:
        months = self._texts.get("months")
        pattern: str = self._texts[form]
        if months:
            pattern = pattern.replace("%B", months[at.month - 1])
        return at.strftime(pattern)


def words_of(locale: str) -> Words:
    """The words of the nearest language there is a file for: `de-CH` is `de`."""
    return _words(language(locale, PAGES) or ENGLISH)


@cache
def _words(name: str) -> Words:
    return Words(name, texts(name, PAGES))
