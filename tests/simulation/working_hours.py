"""What can wait reaches customers in their working hours, however long it waited on the way."""

import json
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

CAN_WAIT = frozenset({"remind", "ending", "setup"})
"""Reminders, logins that end in a week, logins to be set up; a lost login is no such thing."""
OPENS, CLOSES = time(9), time(17)
SATURDAY = 5
ON_ITS_WAY = timedelta(minutes=1)
SOON = timedelta(minutes=15)
"""What was put right after a clock that was ahead may come so long after they begin work."""
MOST_LOOKS = 300
"""Three days of them: a weekend, and a bit."""
SKEW = timedelta(minutes=6)
"""By so much a process may believe another time, where clocks are in trouble."""


def at_night(oracle: "Oracle") -> Iterator[str]:
    """No such mail was handed over while its customer was not at work."""
    universe = oracle.universe
    margin = ON_ITS_WAY + (SKEW if "clock" in universe.people.kinds else timedelta())
    kinds = {
        row["id"]: json.loads(row["payload"]).get("do")
        for row in oracle.rows("SELECT id, payload FROM outbox WHERE channel = 'email'")
    }
    for mail in universe.mail.taken:
        row_id = mail.identity.strip("<>").partition("@")[0]
        zone = universe.zones.get(mail.recipients[0], "UTC")
        if kinds.get(row_id) not in CAN_WAIT:
            continue
        if not any(is_at_work(at, zone) for at in (mail.at - margin, mail.at, mail.at + margin)):
            local = mail.at.astimezone(ZoneInfo(zone))
            whom = mail.recipients[0]
            yield f"night: {whom} was mailed at {local:%a %H:%M} {zone}: {mail.subject}"


def waits_for_work(now: datetime, until: datetime, zone: str) -> bool:
    """Whether nobody there is at work from `now` on until shortly before `until`."""
    looks = int((until - SOON - now) / SOON)
    return looks < MOST_LOOKS and not any(
        is_at_work(now + number * SOON, zone) for number in range(looks + 1)
    )


def is_at_work(at: datetime, zone: str) -> bool:
    """Whether people are at work then and there."""
    local = at.astimezone(ZoneInfo(zone))
    return local.weekday() < SATURDAY and OPENS <= local.time() < CLOSES
