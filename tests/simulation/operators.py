"""The operators of a universe: they press buttons in Slack, start runs by hand, change settings."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

from linekeeper.config import AppConfig
from linekeeper.settings import Settings
from linekeeper.store.configuration import seed
from tests.simulation.flow_runs import SimRun
from tests.simulation.slack import CHANNEL, SIGNING_SECRET, Message

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

BY_HAND = ("health-sweep", "health-sweep", "reconcile", "refresh-tokens", "process-webhooks")
PRESS_AGAIN = 0.3
"""The share of presses that Slack delivers twice."""
DIALOG = "linekeeper_dialog"
ACKNOWLEDGE = "linekeeper_acknowledge"


@dataclass(frozen=True)
class Press:
    """What was pressed or filled in, and answered with 200."""

    incident_id: str
    at: datetime
    note: str = ""
    """What was written; empty where *Acknowledge* was pressed."""
    run: SimRun | None = None
    """The run in whose form it was written."""


class Operators:
    """What people do to Linekeeper itself."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng
        self._presses = 0
        self.pressed: list[Press] = []
        self.usual: tuple[AppConfig, ...] = ()
        """What is set where nothing is changed for a while; nothing: what the environment says."""
        self._budget = (universe.now(), 0)
        self.budgets: list[tuple[datetime, datetime, int]] = []
        """From when until when the settings gave how many calls a minute."""
        self._out_since: datetime | None = None
        self.out: list[tuple[datetime, datetime]] = []
        """From when until when another app alone stood in the settings."""

    async def _pause(self, mean: float) -> bool:
        await asyncio.sleep(self._rng.expovariate(1 / mean))
        return not self._universe.calm

    # --- runs

    async def start_runs(self) -> None:
        """Somebody starts what the schedules start, too; sometimes twice."""
        universe = self._universe
        while True:
            if not await self._pause(700.0) or universe.prefect.down:
                continue
            name = self._rng.choice(BY_HAND)
            for _ in range(self._rng.choice((1, 1, 2))):
                universe.say(f"by hand: {name}")
                run = SimRun(UUID(universe.clock.new_id()), name, name, False)
                universe.prefect.enqueue(run)

    async def answer_forms(self) -> None:
        """Somebody answers the form of a run that waits for a login; sometimes it is sent twice."""
        universe = self._universe
        while True:
            if not await self._pause(300.0):
                continue
            waiting = [
                run for run in universe.prefect.runs.values()
                if run.deployment == "reconnect" and run.state_word == "suspended"
            ]  # fmt: skip
            if not waiting or universe.prefect.down:
                continue
            run = self._rng.choice(waiting)
            self._presses += 1
            note = f"note {self._presses}: looked at it"
            snooze = self._rng.choice(("no", "no", "1 hour"))
            answer = {"by": "ben", "note": note, "snooze": snooze, "give_up": False}
            universe.say(f"form: {note}")
            incident_id = str(run.parameters.get("incident"))
            self.pressed.append(Press(incident_id, universe.now(), note, run))
            for _ in range(self._rng.choice((1, 2))):
                await universe.prefect.resume_run(str(run.id), answer)

    # --- Slack

    async def press_buttons(self) -> None:
        """Somebody acknowledges what stands in the channel, or writes a note on it and snoozes."""
        universe = self._universe
        while True:
            if not await self._pause(400.0):
                continue
            offered = [
                element for message in universe.slack.channel for element in _buttons(message)
            ]
            if not offered:
                continue
            element = self._rng.choice(offered)
            name, incident_id = str(element["action_id"]), str(element["value"])
            self._presses += 1
            number = self._presses
            press = {
                "type": "block_actions", "trigger_id": f"trigger-{number}",
                "user": {"id": "U1", "username": "ann"}, "channel": {"id": CHANNEL},
                "actions": [{"action_id": name, "value": incident_id}],
            }  # fmt: skip
            is_taken = await self._post(press)
            universe.say(f"Slack: {name} {incident_id} pressed: {is_taken}")
            if name == ACKNOWLEDGE:
                if is_taken:
                    self.pressed.append(Press(incident_id, universe.now()))
                continue
            await asyncio.sleep(self._rng.uniform(3, 40))
            if not universe.slack.dialogs.get(f"trigger-{number}"):
                continue  # the dialog did not open
            note = f"note {number}: looked at it"
            if await self._post(self._filled_in(incident_id, number, note)):
                self.pressed.append(Press(incident_id, universe.now(), note))

    def _filled_in(self, incident_id: str, number: int, note: str) -> dict[str, Any]:
        snooze = self._rng.choice(({}, {"selected_option": {"value": "1h"}}))
        again = self._rng.choice(({}, {"selected_options": [{"value": "again"}]}))
        values = {
            "snooze": {"snooze": snooze}, "again": {"again": again},
            "note": {"note": {"value": note}},
        }  # fmt: skip
        return {
            "type": "view_submission", "user": {"id": "U1", "username": "ann"},
            "view": {
                "id": f"V{number}", "hash": str(number), "callback_id": DIALOG,
                "private_metadata": incident_id, "state": {"values": values},
            },
        }  # fmt: skip

    async def send_again(self, incident_id: str) -> bool:
        """Somebody ticks in the dialog that the links are to be sent again."""
        self._presses += 1
        number = self._presses
        asked = self._filled_in(incident_id, number, f"note {number}: looked at it")
        asked["view"]["state"]["values"]["again"]["again"] = {
            "selected_options": [{"value": "again"}]
        }
        return await self._post(asked)

    async def snooze(self, incident_id: str) -> bool:
        """Somebody snoozes an incident for an hour in the dialog."""
        self._presses += 1
        number = self._presses
        asked = self._filled_in(incident_id, number, f"note {number}: looked at it")
        values = asked["view"]["state"]["values"]
        values["snooze"]["snooze"] = {"selected_option": {"value": "1h"}}
        values["again"]["again"] = {}
        return await self._post(asked)

    async def _post(self, payload: dict[str, Any]) -> bool:
        """What Slack posts, sometimes twice; whether it was taken.

        A dialog that is answered with errors stays open, and the person gives it up.
        """
        universe = self._universe
        body = urlencode({"payload": json.dumps(payload)}).encode()
        stamp = str(int(universe.now().timestamp()))
        signed = f"v0:{stamp}:".encode() + body
        signature = "v0=" + hmac.new(SIGNING_SECRET.encode(), signed, hashlib.sha256).hexdigest()
        headers = {
            "x-slack-request-timestamp": stamp, "x-slack-signature": signature,
            "content-type": "application/x-www-form-urlencoded",
        }  # fmt: skip
        is_taken = False
        for _ in range(2 if self._rng.random() < PRESS_AGAIN else 1):
            answer = await universe.request("POST", "/slack/actions", headers, body)
            is_taken |= answer is not None and answer.status == 200 and not answer.body
        return is_taken

    # --- settings

    async def change_settings(self) -> None:
        """A block is changed, or another app's stands in its place; a while later all is undone."""
        universe = self._universe
        while True:
            if not await self._pause(1500.0):
                return
            app = self.usual[0] if self.usual else seed(Settings()).apps["default"]
            name, changed = self._rng.choice(list(_changed(app)))
            universe.say(f"settings: {name}")
            self._set(changed)
            await asyncio.sleep(self._rng.choice((400.0, 900.0, 1500.0)))
            if universe.calm:
                return
            self.restore()

    def be_thrifty(self, app: AppConfig) -> None:
        """`app` is what is set from now on, where nothing else is for a while."""
        self.usual = (app,)
        self._set(*self.usual)

    def restore(self, *, to_the_end: bool = False) -> None:
        """The settings are again as they were; or, to the end, as they were at the beginning."""
        if to_the_end:
            self.usual = ()
        self._set(*self.usual)
        self._universe.say("settings: restored")

    def _set(self, *apps: AppConfig) -> None:
        universe, (since, budget) = self._universe, self._budget
        if budget:
            self.budgets.append((since, universe.now(), budget))
        ours = [app.calls_a_minute for app in apps if app.name == "default"]
        is_named = bool(ours) or not apps
        if self._out_since is not None and is_named:
            self.out.append((self._out_since, universe.now()))
        self._out_since = None if is_named else self._out_since or universe.now()
        self._budget = (universe.now(), ours[0] if ours else 0)
        universe.prefect.blocks = replace(universe.prefect.blocks, apps=apps)


def _changed(app: AppConfig) -> Iterator[tuple[str, AppConfig]]:
    """What operators may set for a while."""
    other = {"name": "other", "api_url": "https://other.sim"}  # which doesn't answer
    for name, update in {
        "small pages": {"per_page": 3}, "few calls": {"per_minute": 60, "share": 0.5},
        "little patience": {"timeout_seconds": 5.0}, "another app alone": other,
    }.items():  # fmt: skip
        yield name, app.model_copy(update=update)


def _buttons(message: Message) -> list[dict[str, Any]]:
    return [
        element
        for block in message.blocks
        if block.get("type") == "actions"
        for element in block.get("elements", [])
        if str(element.get("action_id", "")).startswith("linekeeper_")
    ]
