"""Automations: what tells an operator that Linekeeper itself is in trouble.

Each appears in the Event Feed when it triggers. The open-source server sends nothing without a
notification block, and that is the operator's choice: add the action "Send a notification" to
the ones you want to hear of. Deploying again leaves that, and whether one is enabled, alone.
"""

from collections.abc import Iterable
from datetime import timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import (
    Automation,
    AutomationCore,
    EventTrigger,
    Posture,
)
from prefect.events.schemas.events import ResourceSpecification

SILENCE = timedelta(minutes=15)
NO_HEARTBEAT = timedelta(minutes=10)
"""Three of Prefect's heartbeats (180 s each) and a bit."""
TAG = "linekeeper"

_OURS = ResourceSpecification(
    {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
)
_RUN = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
_HOW = (
    "To be told, add the action “Send a notification”; deploying again leaves it. "
    "Disable it here if you don't want it."
)


def wanted_automations(pool: str) -> list[AutomationCore]:
    """The automations of this version."""
    return [
        AutomationCore(
            name="Linekeeper: run failed",
            description=f"A run ended Failed or Crashed: red means new. {_HOW}",
            tags=[TAG],
            trigger=EventTrigger(
                expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
                match=_RUN,
                match_related=_OURS,
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[DoNothing()],
        ),
        AutomationCore(
            name="Linekeeper: run late",
            description=f"A run waits past its time: no worker, or too few. {_HOW}",
            tags=[TAG],
            trigger=EventTrigger(
                expect={"prefect.flow-run.Late"},
                match=_RUN,
                match_related=_OURS,
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[DoNothing()],
        ),
        AutomationCore(
            name="Linekeeper: pool not ready",
            description=f"No worker polls the pool “{pool}”: nothing runs. {_HOW}",
            tags=[TAG],
            trigger=EventTrigger(
                expect={"prefect.work-pool.not-ready"},
                match=ResourceSpecification(
                    {
                        "prefect.resource.id": "prefect.work-pool.*",
                        "prefect.resource.name": pool,
                    }
                ),
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[DoNothing()],
        ),
        AutomationCore(
            name="Linekeeper: no sweep finished in 15 min",
            description=f"Connections are not being watched. {_HOW}",
            tags=[TAG],
            trigger=EventTrigger(
                expect={f"prefect.flow-run.{n}" for n in ("Completed", "Failed", "Skipped")},
                match=_RUN,
                match_related=ResourceSpecification(
                    {"prefect.resource.role": "flow", "prefect.resource.name": "health-sweep"}
                ),
                posture=Posture.Proactive,
                threshold=1,
                within=SILENCE,
            ),
            actions=[DoNothing()],
        ),
        AutomationCore(
            name="Linekeeper: zombie run",
            description="A run whose process is gone (no heartbeat for 10 minutes) is marked "
            "Crashed, so that it doesn't look as if it ran. A suspended run is none. "
            "Disable it here if you don't want it.",
            tags=[TAG],
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.*"},
                match=_RUN,
                match_related=_OURS,
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=NO_HEARTBEAT,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    message="No heartbeat for 10 minutes: its process is gone.",
                )
            ],
        ),
    ]


async def upsert(
    client: PrefectClient, wanted: Iterable[AutomationCore], *, reset: bool
) -> tuple[list[str], list[str]]:
    """Make what is missing; returns the names made or put back, and what differs and was left.

    One is known by its name. Where there are several of a name, the oldest counts.
    """
    done, different = [], []
    for automation in wanted:
        found = await client.read_automations_by_name(automation.name)
        if not found:
            await client.create_automation(automation)
            done.append(automation.name)
            continue
        differences = _differences(found[0], automation)
        if differences and reset:
            # Prefect's client leaves out what was not given, an action's type among it: give all.
            fields = automation.model_dump(mode="json", exclude={"owner_resource"})
            whole = AutomationCore.model_validate(fields)
            await client.update_automation(found[0].id, whole)
            done.append(automation.name)
        elif differences:
            different.append(f"{automation.name}: {', '.join(differences)}")
    return done, different


def _differences(found: Automation, wanted: AutomationCore) -> list[str]:
    there, here = found.model_dump(), wanted.model_dump()  # as JSON, sets come in any order
    words = {"enabled": "enabled" if found.enabled else "disabled"}
    names = ("enabled", "description", "tags", "trigger", "actions")
    return [words.get(name, name) for name in names if there[name] != here[name]]
