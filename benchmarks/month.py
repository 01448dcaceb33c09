"""A month of a fleet, seeded and replayed in process: what operators would have heard.

Everything below the clock is real: observations are judged and concluded in a real SQLite, the
alert policy decides, notices go to the sandbox's Slack over loopback HTTP. What happens to the
fleet is drawn from a seed: outages of providers and of single systems, changed passwords, flapping,
blips, Makini itself away, planned maintenance. `python -m benchmarks.month` prints the figures.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from pydantic import SecretStr
from sqlalchemy import bindparam, func, insert, select
from sqlmodel import col

from linekeeper.config import AlertPolicy, AppConfig, Configuration, HealthPolicy, SlackConfig
from linekeeper.config.alerts import quiet_times
from linekeeper.health.evidence import (
    Health,
    Judged,
    Observation,
    Outcome,
)
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.incidents.news import find_news, mark_reported
from linekeeper.incidents.operate import NoIncident, acknowledge
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.notify.merged import merged_into
from linekeeper.notify.slack_channel import Pacer
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Notice,
    NoticeMessage,
    Outbox,
    Silence,
)
from linekeeper.sweep.app import list_failed, list_worked
from linekeeper.views.digest_measures import measure
from linekeeper.views.digest_queries import read_lives
from sandbox import Settings as SandboxSettings
from sandbox import serving

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SWEEP = 5 * MINUTE
LOOK = 12
"""Sweeps between two looks of the policy while nothing changes."""
QUIET = "22:00-07:00"
GOALS = {"replay_s": 60.0, "first_message_headroom": 1.0, "red_run_headroom": 1.0, "announced": 1.0}
MESSAGES_PER_CAUSE, RED_RUNS = 1.3, 5.0
RED_FOR_FINDINGS = 4.55
"""Of those at most so many for what they found; the rest could not read the list, and how many
these are says only for how long Makini was away."""
_PROVIDERS = (("SAP ECC", 30), ("UpKeep", 18), ("Maximo", 14), ("S/4HANA", 12), ("Infor EAM", 8),
              ("Fiix", 6), ("eMaint", 4), ("Oracle", 4), ("Dynamics", 2), ("Odoo", 2))  # fmt: skip
_UNEASY = select(col(Connection.id)).where(
    col(Connection.id).in_(bindparam("ids", expanding=True)),
    (col(Connection.health) != "healthy") | col(Connection.suspect).is_(True),
)


@dataclass(slots=True)
class Cause:
    """Something that happens to connections (by number) from `start` to `end`."""

    kind: str
    members: Sequence[int]
    start: datetime
    end: datetime
    outcome: Outcome = Outcome.missed
    silent: bool = False
    """Planned: to be recorded, not told."""


@dataclass(slots=True)
class Replay:
    """What was seen."""

    causes: Counter[str] = field(default_factory=Counter)
    unheard: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def run() -> dict[str, Any]:
    """The figures of 30 days and 1,000 connections, with the goals beside them."""
    return {**asyncio.run(replay()).figures, "goals": GOALS}


async def replay(
    *, days: int = 30, connections: int = 1_000, seed: int = 7, quiet: str = QUIET
) -> Replay:
    """Live through `days` of `connections`; the same seed gives the same month."""
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(home=Path(name), _env_file=None)
        sandbox = SandboxSettings(port=0, connections=0, records_per_connection=0)
        async with Store.open(settings) as store, serving(sandbox) as served:
            await migrate(store)
            slack = SlackConfig(
                bot_token=SecretStr(sandbox.slack_token),
                channel="#linekeeper",
                api_url=f"{served.url}/slack/api/",
            )
            alerts = AlertPolicy(quiet_hours=quiet)
            month = _Month(
                store, Configuration(slack=slack, alerts=alerts), days, connections, seed
            )
            began = time.perf_counter()
            await month.live()
            seconds = time.perf_counter() - began
            return await month.look_back(seconds, len(served.world.slack.snapshot()))


class _Month:
    def __init__(
        self, store: Store, configuration: Configuration, days: int, connections: int, seed: int
    ) -> None:
        self.store = store
        self.configuration = configuration
        self.app = AppConfig()
        self.policy = HealthPolicy()
        self.end = START + days * DAY
        self.days = days
        self.chance = random.Random(seed)
        self.now = START
        self.ids = [new_id() for _ in range(connections)]
        self.number = {identifier: n for n, identifier in enumerate(self.ids)}
        names = [name for name, _ in _PROVIDERS]
        weights = [weight for _, weight in _PROVIDERS]
        self.provider = self.chance.choices(names, weights, k=connections)
        self.causes = sorted(self._script(days, connections), key=lambda cause: cause.start)
        self.uneasy: set[int] = set()
        """Connections that a sweep would look at whatever their turn."""
        self.steady: dict[int, tuple[Outcome, int]] = {}
        """What each was last seen as, and how often in a row."""
        self.red: Counter[str] = Counter()
        self.acknowledging: list[tuple[datetime, str]] = []
        self.known: set[tuple[str, str]] = set()

    def _script(self, days: int, connections: int) -> list[Cause]:
        chance, scale = self.chance, days / 30
        by_provider: dict[str, list[int]] = {}
        for n, name in enumerate(self.provider):
            by_provider.setdefault(name, []).append(n)
        large = [name for name, members in by_provider.items() if len(members) >= 8]
        taken: set[int] = set()

        def times(per_month: float) -> range:
            return range(max(1, round(per_month * scale)))

        def moment() -> datetime:
            return START + HOUR + chance.random() * (days * DAY - 6 * HOUR)

        def alone() -> list[int]:
            free = [n for n in range(connections) if n not in taken]
            connection = chance.choice(free)
            taken.add(connection)
            return [connection]

        def lasting(least: float, most: float) -> timedelta:
            return chance.uniform(least, most) * MINUTE

        def cause(kind: str, members: Sequence[int], length: timedelta, **options: Any) -> Cause:
            start = moment()
            return Cause(kind, members, start, start + length, **options)

        share = connections / 1_000
        script = [
            cause("provider outage", by_provider[chance.choice(large)], lasting(25, 240))
            for _ in times(8)
        ]
        for _ in times(3):
            members = by_provider[chance.choice(large)]
            part = members
            if len(members) > 12:
                part = chance.sample(members, max(6, len(members) * 3 // 10))
            script.append(cause("partial outage", part, lasting(30, 120)))
        for _ in times(45 * share):
            script.append(
                cause("changed password", alone(), lasting(60, 2_400), outcome=Outcome.login_lost)
            )
        script += [cause("system outage", alone(), lasting(25, 720)) for _ in times(60 * share)]
        script += [cause("blip", alone(), lasting(4, 8)) for _ in times(200 * share)]
        script += [cause("makini outage", range(connections), lasting(30, 90)) for _ in times(2)]
        script += [
            cause("maintenance", by_provider[chance.choice(large)], lasting(30, 110), silent=True)
            for _ in times(6)
        ]
        for _ in times(12 * share):
            [connection], at = alone(), moment()
            until = at + chance.uniform(4, 8) * HOUR
            while at < until:
                down = lasting(16, 25)
                script.append(Cause("flapping", [connection], at, at + down))
                at += down + lasting(10, 20)
        return script

    async def live(self) -> None:
        await self._populate()
        sweep, look, away = 0, 0, False
        while self.now < self.end:
            active = [cause for cause in self.causes if cause.start <= self.now < cause.end]
            is_away = any(cause.kind == "makini outage" for cause in active)
            if is_away != away:
                away = is_away
                await self._list(away)
                look = 0
            changed = await self._sweep(active, sweep)
            await self._acknowledge()
            if away:
                self.red["runs"] += 1
                self.red["list failed"] += 1
            if changed or look <= 0 or (self.now.minute == 0 and self.now.hour == 7):
                look = LOOK
                await self._evaluate_alerts(away)
            sweep, look = sweep + 1, look - 1
            self.now += SWEEP

    async def _populate(self) -> None:
        chance = self.chance
        customers = [
            {
                "id": new_id(),
                "name": f"Customer {n:03}",
                "slug": f"customer-{n:03}",
                "owner": chance.choice(("Petra", "Jonas", "Mei")),
                "critical": chance.random() < 0.1,
                "time_zone": "UTC",
                "locale": "en",
                "created_at": START,
            }
            for n in range(max(4, len(self.ids) // 3))
        ]
        judged = to_builtins(Judged(Health.healthy, Health.healthy, "active", observed_at=START))
        rows: list[dict[str, Any]] = [
            {
                "id": identifier,
                "app": "default",
                "makini_key": f"key-{n:05}",
                "customer_id": chance.choice(customers)["id"],
                "name": self.provider[n],
                "slug": f"c{n:05}",
                "provider": self.provider[n],
                "email": "",
                "hosting": "cloud",
                "tags": [],
                "setup": "live",
                "health": "healthy",
                "health_since": START,
                "suspect": False,
                "last_answered_at": START,
                "judged": judged,
                "created_at": START,
            }
            for n, identifier in enumerate(self.ids)
        ]
        windows = [
            {
                "id": new_id(),
                "kind": "maintenance",
                "scope": "provider",
                "subject": self.provider[cause.members[0]],
                "label": self.provider[cause.members[0]],
                "starts_at": cause.start - 10 * MINUTE,
                "ends_at": cause.end + 30 * MINUTE,
                "by": "Petra",
                "reason": "planned",
            }
            for cause in self.causes
            if cause.silent
        ]
        async with self.store.write() as session:
            await session.execute(insert(Customer), customers)
            await session.execute(insert(Connection), rows)
            if windows:
                await session.execute(insert(Silence), windows)

    async def _list(self, away: bool) -> None:
        if away:
            error = MakiniError(ErrorKind.unavailable, "503 Service Unavailable", app="default")
            await list_failed(self.store, self.app, error, now=self.now)
        else:
            await list_worked(self.store, self.app, now=self.now)

    async def _sweep(self, active: Sequence[Cause], sweep: int) -> bool:
        """One sweep over those that are not plainly well; whether anything changed."""
        outcome: dict[int, Outcome] = {}
        for cause in active:
            for n in cause.members:
                if outcome.get(n) is not Outcome.missed:
                    outcome[n] = cause.outcome
        due = [n for n in sorted(outcome.keys() | self.uneasy) if self._is_due(n, outcome, sweep)]
        if not due:
            return False
        for n in due:
            what = outcome.get(n, Outcome.answered)
            before, times = self.steady.get(n, (what, 0))
            self.steady[n] = what, times + 1 if before is what else 1
        seen = [
            (
                self.ids[n],
                Observation(
                    at=self.now,
                    source="probe",
                    outcome=outcome.get(n, Outcome.answered),
                    latency=0.2,
                    code="TIMEOUT" if outcome.get(n) is Outcome.missed else None,
                ),
            )
            for n in due
        ]
        async with self.store.write() as session:
            changes = await observe(self.store, session, seen, policy=self.policy, now=self.now)
            if changes:
                await conclude(self.store, session, policy=self.policy, now=self.now)
            rows = await session.scalars(_UNEASY, {"ids": [self.ids[n] for n in due]})
            self.uneasy -= set(due)
            self.uneasy |= {self.number[identifier] for identifier in rows}
        return bool(changes)

    def _is_due(self, n: int, outcome: dict[int, Outcome], sweep: int) -> bool:
        """Whether a sweep would see anything of it that changes something.

        The well are probed every other sweep. What is seen for the tenth time as what it was is
        looked at now and then only: the judge would say the same.
        """
        what = outcome.get(n, Outcome.answered)
        before, times = self.steady.get(n, (Outcome.answered, 0))
        if n not in self.uneasy:
            return (n + sweep) % 2 == 0
        return before is not what or times < 3 or what is Outcome.answered or (n + sweep) % 9 == 0

    async def _evaluate_alerts(self, away: bool) -> None:
        findings = await find_news(self.store, policy=self.policy, now=self.now)
        if findings.news:
            self.red["runs"] += not away
            self.red.update({news.reason for news in findings.news})
            await mark_reported(self.store, findings.news, now=self.now)
        await deliver_due(
            self.store,
            self.configuration,
            "month",
            clock=lambda: self.now,
            limit=1_000,
            pacer=Pacer(0),
        )
        async with self.store.read() as session:
            notified = await session.execute(
                select(col(Notice.incident_id), col(Notice.step)).where(
                    col(Notice.step) != "never", col(Notice.at) > self.now - HOUR
                )
            )
            for incident_id, step in notified:
                if (incident_id, step) in self.known:
                    continue
                self.known.add((incident_id, step))
                at_work = 7 <= self.now.hour < 19
                if self.chance.random() < (0.85 if at_work else 0.5):
                    wait = self.chance.uniform(5, 90 if at_work else 400) * MINUTE
                    self.acknowledging.append((self.now + wait, incident_id))

    async def _acknowledge(self) -> None:
        due = [entry for entry in self.acknowledging if entry[0] <= self.now]
        for entry in due:
            self.acknowledging.remove(entry)
            try:
                await acknowledge(self.store, entry[1], by="Petra", now=self.now)
            except NoIncident:
                continue  # it is over

    async def look_back(self, seconds: float, in_slack: int) -> Replay:
        """The figures."""
        result = Replay()
        quiet = quiet_times(QUIET, "", "UTC")
        async with self.store.read() as session:
            notices = list(await session.scalars(select(Notice)))
            incidents = list(await session.scalars(select(Incident)))
            merged = set(await merged_into(session, [incident.id for incident in incidents]))
            memberships = (
                await session.execute(
                    select(
                        col(IncidentConnection.incident_id),
                        col(IncidentConnection.connection_id),
                        col(IncidentConnection.joined_at),
                        func.coalesce(
                            col(IncidentConnection.left_at), col(Incident.resolved_at), self.end
                        ),
                    ).join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
                )
            ).all()
            is_reply = col(NoticeMessage.subject).startswith("counts:")
            subjects = set(
                await session.scalars(select(col(NoticeMessage.subject)).where(~is_reply))
            )
            left = await session.scalar(
                select(func.count())
                .select_from(Outbox)
                .where(col(Outbox.channel) == "slack", col(Outbox.status) == "pending")
            )
            lives = await read_lives(session, START)
        firsts = {notice.incident_id: notice for notice in notices if notice.step == "first"}
        never = {notice.incident_id: notice.why for notice in notices if notice.step == "never"}
        result.unheard = [
            f"incident {incident.title} {incident.kind} {incident.opened_at}"
            for incident in incidents
            if incident.id not in firsts
            and incident.id not in merged
            and not never.get(incident.id, "").startswith("over before anybody was notified: ")
            and not (incident.resolved_at is None and incident.opened_at > self.end - 9 * HOUR)
        ]
        member: dict[str, list[tuple[datetime, datetime, str]]] = {}
        for incident_id, connection_id, at, until in memberships:
            member.setdefault(connection_id, []).append((at, until, incident_id))
        away = [cause for cause in self.causes if cause.kind == "makini outage"]
        planned = [cause for cause in self.causes if cause.silent]
        roots: Counter[str] = Counter()
        flapping: set[int] = set()
        for cause in self.causes:
            if cause.kind == "blip" or cause.end > self.end - 10 * HOUR or cause.silent:
                continue
            if cause.kind == "flapping":
                if cause.members[0] in flapping:
                    continue
                flapping.add(cause.members[0])
                same = [c for c in self.causes if c.members == cause.members]
                cause = replace(cause, end=max(c.end for c in same))  # noqa: PLW2901 - all of it
            roots[cause.kind] += 1
            if cause.kind == "makini outage" or self._is_hidden(cause, [*away, *planned]):
                continue
            identifiers = {
                incident_id
                for n in cause.members
                for at, until, incident_id in member.get(self.ids[n], ())
                if at <= cause.end + 30 * MINUTE and until >= cause.start
            }
            if not any(identifier in firsts or identifier in merged for identifier in identifiers):
                lasted = (cause.end - cause.start) / MINUTE
                result.unheard.append(
                    f"{cause.kind} at {cause.start:%d %H:%M} for {lasted:.0f} min"
                )
        messages = {notice.group_key or notice.incident_id for notice in firsts.values()}
        loud = [notice for notice in notices if notice.step != "never" and quiet.holds(notice.at)]
        traced = {
            f"fold:{notice.group_key}" if notice.group_key else f"incident:{notice.incident_id}"
            for notice in notices
        }
        weeks = self.days / 7
        causes = sum(roots.values())
        fleet_weeks = weeks * len(self.ids) / 100
        red = self.red["runs"] / fleet_weeks
        for_findings = (self.red["runs"] - self.red["list failed"]) / fleet_weeks
        figures = measure(lives, since=START, now=self.end)
        result.causes = roots
        result.figures = {
            "replay_s": round(seconds, 1),
            "root_causes": causes,
            "incidents": len(incidents) - len(merged),
            "first_messages": len(messages),
            "messages_in_slack": in_slack,
            "first_messages_per_root_cause": round(len(messages) / max(causes, 1), 3),
            "first_message_headroom": round(MESSAGES_PER_CAUSE * causes / max(len(messages), 1), 3),
            "red_runs_per_100_a_week": round(red, 2),
            "red_for_findings_per_100_a_week": round(for_findings, 2),
            "red_because": dict(self.red),
            "red_run_headroom": round(RED_RUNS / max(red, 0.01), 2),
            "announced": round(1 - len(result.unheard) / max(len(incidents), 1), 4),
            "loud_in_quiet_hours": sum(notice.severity != "critical" for notice in loud),
            "untraced": len(subjects - traced) + max(0, in_slack - len(subjects)),
            "left_unsaid": left or 0,
            "not_announced_on_purpose": len(never.keys() - merged),
            "reminders": sum(notice.step.startswith("reminder") for notice in notices),
            "escalations": sum(notice.step == "escalation" for notice in notices),
            "acknowledged": round(figures.acknowledged or 0, 2),
            "false_alarms": round(figures.false_alarm_share or 0, 2),
        }
        return result

    def _is_hidden(self, cause: Cause, others: Sequence[Cause]) -> bool:
        """Whether it happened within something that is told instead of it, or not at all."""
        return any(
            other.start - 20 * MINUTE <= cause.start and cause.end <= other.end + 40 * MINUTE
            for other in others
            if set(cause.members) <= set(other.members)
        )


if __name__ == "__main__":
    figures = run()
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")
