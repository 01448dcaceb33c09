"""What people may expect: mails that are true, quiet that is kept, presses that count once."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from tests.simulation.doubted import DOUBTED, mailed_while_kept
from tests.simulation.ending import wrongly_notified
from tests.simulation.lost import (
    NOTICED_LATE,
    is_gone_unlisted,
    is_token_missing,
    is_unverifiable,
    line_of,
    was_lost,
    worked,
    works_since,
)
from tests.simulation.plan import QUIET_FROM
from tests.simulation.second_acts import IN_THE_SOUTH
from tests.simulation.working_hours import at_night

if TYPE_CHECKING:
    from tests.simulation.flow_runs import SimRun
    from tests.simulation.oracle import Oracle
    from tests.simulation.universe import Universe

CLOCKS = timedelta(minutes=6)
"""By so much a process may believe another time."""
CLOCK_KINDS = frozenset({"clock", "day"})
KNOWN_AFTER = timedelta(minutes=2)
"""From a login that was answered as done until no mail asks for it any more."""
REMINDED_AFTER = (1, 2, 4)
"""Working days."""
UNTIL_THE_DEADLINE = timedelta(days=7)
SATURDAY = 5
NEXT_DAY = timedelta(hours=15)
BESIDE = timedelta(hours=6)
QUIET_FOR = timedelta(minutes=45)


def discourtesies(oracle: "Oracle") -> list[str]:
    """Everything that is broken, in one line each."""
    undated = [*_presses(oracle), *_said_twice(oracle)]
    if "day" in oracle.universe.people.kinds:
        return undated  # our own times are not those of the world
    return [
        *_mails(oracle), *_mailed_twice(oracle), *_reminded(oracle), *_reminded_beside(oracle),
        *_quiet(oracle), *at_night(oracle), *wrongly_notified(oracle), *mailed_while_kept(oracle),
        *undated,
    ]  # fmt: skip


def _mails(oracle: "Oracle") -> Iterator[str]:
    """No customer is mailed about a login that works."""
    truth, people = oracle.universe.truth, oracle.universe.people
    lag = timedelta(seconds=oracle.universe.personality.status_lag)
    for mail in oracle.universe.mail.taken:
        if not mail.asks_for_a_login:
            continue  # it asks for nothing, or for a login that ends
        since, until = mail.at - lag - NOTICED_LATE, mail.at + CLOCKS
        theirs = [each for each in truth.connections.values() if each.email in mail.recipients]
        lines = [each for connection in theirs for each in line_of(truth, connection)]
        if any(oracle.was_locked_out(each) for each in lines):
            continue
        if any(is_gone_unlisted(oracle.universe, each, mail.at) for each in theirs):
            continue
        if any(is_token_missing(oracle.universe, each, mail.at) for each in theirs):
            continue
        if any(is_unverifiable(oracle.universe, each, mail.at) for each in theirs):
            continue
        works = works_since(lines, mail.at)
        why = works and oracle.universe.evidence.contradicts(lines, works, mail.at)
        if why:
            yield (
                f"mail: {', '.join(mail.recipients)} was mailed at {mail.at:%H:%M:%S} about a "
                f"login that works, and {why}: {mail.subject}"
            )
            continue
        if not any(was_lost(each, since, until) for each in lines):
            yield (
                f"mail: {', '.join(mail.recipients)} was mailed at {mail.at:%H:%M:%S} about a "
                f"login that works: {mail.subject}"
            )
            continue
        done = [at for address, at in people.customers.done if address in mail.recipients]
        known = max((at for at in done if at < mail.at - KNOWN_AFTER), default=None)
        if known is not None and not any(was_lost(each, known, until) for each in lines):
            yield (
                f"mail: {', '.join(mail.recipients)} logged in at {known:%H:%M:%S} and was mailed "
                f"at {mail.at:%H:%M:%S}: {mail.subject}"
            )


def _mailed_twice(oracle: "Oracle") -> Iterator[str]:
    """Nobody is written to twice about one lost login; the same mail may come twice.

    Where people press "send again", they are.
    """
    universe = oracle.universe
    if universe.people.kinds & {"buttons", "deadline", DOUBTED}:
        return
    asked = [
        mail for mail in universe.mail.taken
        if "/connect/" in mail.text and not mail.is_about_an_end
    ]  # fmt: skip
    for number, mail in enumerate(asked):
        for later in asked[number + 1 :]:
            is_same = later.recipients == mail.recipients and later.subject == mail.subject
            if not is_same or later.identity == mail.identity or later.at - mail.at > NEXT_DAY:
                continue
            theirs = [
                each for each in universe.truth.connections.values()
                if each.email in mail.recipients
            ]  # fmt: skip
            if any(is_gone_unlisted(universe, each, mail.at) for each in theirs):
                continue  # the first one asked for a connection that is gone, which nobody knew
            lines = [each for one in theirs for each in line_of(universe.truth, one)]
            # Whoever is gone at Makini by then was replaced by a login, or nobody asks for it.
            lived = [each for each in lines if not each.deleted_at or each.deleted_at > later.at]
            if not any(worked(each, mail.at, later.at) for each in lived):
                yield (
                    f"twice: {', '.join(mail.recipients)} was mailed at {mail.at:%H:%M:%S} and at "
                    f"{later.at:%H:%M:%S}: {mail.subject}"
                )


def _reminded(oracle: "Oracle") -> Iterator[str]:
    """Who doesn't log in is reminded after one, two and four working days, until the deadline.

    Where nothing else goes wrong.
    """
    universe = oracle.universe
    if not universe.people.kinds <= {"deadline", "none"}:
        return
    for connection in universe.truth.connections.values():
        ends = [at for at, _ in connection.logins[1:]] + [universe.now()]
        for (since, works), until in zip(connection.logins, ends, strict=True):
            if works:
                continue
            end = min(until, since + UNTIL_THE_DEADLINE)
            days = [since.date() + timedelta(days=n) for n in range(1, (end - since).days + 1)]
            working_days = sum(day.weekday() < SATURDAY and day < end.date() for day in days)
            wanted = 1 + sum(working_days >= after for after in REMINDED_AFTER)
            mails = [
                mail for mail in universe.mail.taken
                if connection.email in mail.recipients and since <= mail.at <= end
            ]  # fmt: skip
            if wanted > 1 and len(mails) < wanted:
                yield (
                    f"mail: {connection.email} lost the login at {since:%d %H:%M}, and was mailed "
                    f"{len(mails)} times until {end:%d %H:%M}, not {wanted}"
                )


def _reminded_beside(oracle: "Oracle") -> Iterator[str]:
    """Nobody is reminded right after another mail about the same loss, however long both waited.

    Where people press "send again", they may be.
    """
    universe = oracle.universe
    if "buttons" in universe.people.kinds:
        return
    reminders = {
        row["id"]
        for row in oracle.rows("SELECT id, payload FROM outbox WHERE channel = 'email'")
        if json.loads(row["payload"]).get("do") == "remind"
    }
    asked = [mail for mail in universe.mail.taken if "/connect/" in mail.text]
    for mail in asked:
        if mail.identity.strip("<>").partition("@")[0] not in reminders:
            continue
        for before in asked:
            is_theirs = before.recipients == mail.recipients and before.identity != mail.identity
            if is_theirs and timedelta() <= mail.at - before.at < BESIDE:
                yield (
                    f"beside: {mail.recipients[0]} was mailed at {before.at:%d %H:%M:%S}, and "
                    f"reminded at {mail.at:%H:%M:%S}"
                )


@dataclass(frozen=True)
class Quiet:
    """Quiet from `start` to `end` on the clocks of `zone`."""

    zone: str
    start: time
    end: time

    @classmethod
    def of(cls, universe: "Universe") -> "Quiet":
        """Some while of this universe, on a clock that may change in it."""
        begin, end = universe.begins + QUIET_FROM, universe.begins + QUIET_FROM + QUIET_FOR
        south = ("Australia/Sydney",) if universe.begins in IN_THE_SOUTH else ()
        for zone in (*south, "Europe/Berlin", "UTC"):
            local = [at.astimezone(ZoneInfo(zone)).time().replace(second=0) for at in (begin, end)]
            if local[0] < local[1]:
                return cls(zone, *local)
        return cls(
            "Asia/Tokyo", *(at.astimezone(ZoneInfo("Asia/Tokyo")).time() for at in (begin, end))
        )

    @property
    def words(self) -> str:
        """As an operator writes it."""
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def holds(self, at: datetime, margin: timedelta) -> bool:
        """Whether it is quiet at `at`, and was and will be for `margin`."""
        clocks = [
            moment.astimezone(ZoneInfo(self.zone)).time()
            for moment in (at - margin, at, at + margin)
        ]
        return all(self.start <= clock < self.end for clock in clocks)


def _quiet(oracle: "Oracle") -> Iterator[str]:
    """In quiet hours nothing new stands in the channel but what is critical."""
    universe = oracle.universe
    kinds = universe.people.kinds
    if "quiet" not in kinds or "prefect" in kinds:
        return  # with Prefect away nobody may know of it yet
    quiet, margin = Quiet.of(universe), CLOCKS if "clock" in kinds else timedelta(minutes=1)
    critical = {
        row["incident_id"]
        for row in oracle.rows("SELECT incident_id FROM notice WHERE severity = 'critical'")
    }
    for message in universe.slack.channel:
        at = message.texts[0][0]
        incident = message.incident_id
        if incident is not None and incident not in critical and quiet.holds(at, margin):
            yield f"quiet: at {at:%H:%M:%S} Slack was told: {message.texts[0][1][:80]!r}"


def _presses(oracle: "Oracle") -> Iterator[str]:
    """What was pressed in Slack and answered has its effect, once."""
    notes = Counter(
        row["text"]
        for row in oracle.rows("SELECT text FROM incident_entry WHERE text LIKE '%note %: looked%'")
    )
    taken = {
        row["subject"]
        for row in oracle.rows("SELECT subject FROM audit WHERE action = 'incident.acknowledged'")
    }
    over = {
        row["id"]: row["resolved_at"] for row in oracle.rows("SELECT id, resolved_at FROM incident")
    }
    resolved = {
        row["incident_id"]
        for row in oracle.rows("SELECT incident_id FROM incident_entry WHERE kind = 'resolved'")
    }
    for press in oracle.universe.people.operators.pressed:
        if press.note:
            count = sum(number for text, number in notes.items() if f"{press.note}" in text)
            if press.run is not None and count == 0 and not _has_ended(press.run):
                continue  # it crashed with what it was answered, or is about to read it
            if count != 1:
                yield f"press: {press.note!r} on {press.incident_id} stands there {count} times"
        elif press.incident_id not in taken | resolved and over.get(press.incident_id) is None:
            yield f"press: {press.incident_id} was acknowledged in Slack, and is not"


def _has_ended(run: "SimRun") -> bool:
    return run.state_word == "completed" and run.state_name != "Replaced"


def _said_twice(oracle: "Oracle") -> Iterator[str]:
    """No message stands in the channel twice; that the database is gone, not until it is back.

    A process that crashed can't say that the database is back, nor does another know that it had
    said more.
    """
    said = [message.key for message in oracle.universe.slack.channel if message.key]
    database = [key for key in said if key.startswith("database:")]
    keys = Counter(key for key in said if key not in database)
    yield from (
        f"twice: {key} stands in Slack {count} times" for key, count in keys.items() if count > 1
    )
    yield from (
        f"twice: {key} is said again in Slack"
        for key, then in pairwise(database)
        if key == then and not oracle.universe.crashed_at
    )
