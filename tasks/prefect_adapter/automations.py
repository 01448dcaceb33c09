"""Automations: what notifies an operator that Linekeeper itself is in trouble.

Each calls the receiver (`POST /prefect/alerts`), which notifies: a run that failed by what it found
is left out, for that has incidents of its own. Deploying again leaves what an operator changed.
"""

import json
from collections.abc import Iterable
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import (
    Automation,
    AutomationCore,
    EventTrigger,
    Posture,
)
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.types import SecretDict
from pydantic import SecretStr

from linekeeper.settings import Settings
from linekeeper.store.engine import encryption_keys
from linekeeper.watch.alerts import Kind, alert_secrets
from tasks.prefect_adapter.names import automation_name, document_name, every, tag

ALERTS_BLOCK = "linekeeper-alerts"
"""The Webhook block through which the automations call the receiver."""
GONE = ("no sweep finished in 15 min", "zombie run")
"""Automations of earlier versions; consumer and receiver watch that now."""

_RUN = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
_HOW = "The receiver notifies in Slack. Disable it here if you don't want it."


async def alerts_block(client: PrefectClient, settings: Settings) -> UUID:
    """The id of the block the automations call; made or brought up to date.

    The secret is always ours; an address that an operator set stays.
    """
    secret = alert_secrets(encryption_keys(settings))[0]
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    base = settings.internal_url or settings.public_url or settings.local_receiver_url
    url = f"{base.rstrip('/')}/prefect/alerts"
    try:
        there = await client.read_block_document_by_name(document_name(ALERTS_BLOCK), "webhook")
        if there.data.get("headers") == headers:
            return there.id
        url = str(there.data.get("url") or url)
    except ObjectNotFound:
        await Webhook.aregister_type_and_schema(client=client)
    block = Webhook(url=SecretStr(url), headers=SecretDict(headers))
    made: UUID = await block.save(document_name(ALERTS_BLOCK), overwrite=True, client=client)
    return made


def wanted_automations(pool: str, alerts: UUID) -> list[AutomationCore]:
    """The automations of this version; they call the block `alerts`."""
    return [
        _about_runs(
            "run failed",
            "A run failed because of an error, not because of what it found.",
            "prefect.flow-run.Failed",
            _of_run("run_failed", alerts),
        ),
        _about_runs(
            "run crashed",
            "The process of a run ended or was lost.",
            "prefect.flow-run.Crashed",
            _of_run("run_crashed", alerts),
        ),
        _about_runs(
            "run late",
            "A run is late: there is no worker, or there are too few.",
            "prefect.flow-run.Late",
            _of_run("run_late", alerts),
        ),
        AutomationCore(
            name=automation_name("pool not ready"),
            description=f"No worker polls the pool “{pool}”: nothing runs. {_HOW}",
            tags=[tag()],
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
            actions=[_call(alerts, {"kind": "pool_not_ready", "subject": pool})],
        ),
    ]


def _ours() -> ResourceSpecification:
    return ResourceSpecification(
        {"prefect.resource.id": f"prefect.tag.{tag()}", "prefect.resource.role": "tag"}
    )


def _about_runs(name: str, what: str, event: str, action: CallWebhook) -> AutomationCore:
    return AutomationCore(
        name=automation_name(name),
        description=f"{what} {_HOW}",
        tags=[tag()],
        trigger=EventTrigger(
            expect={event},
            match=_RUN,
            match_related=_ours(),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[action],
    )


def _of_run(kind: Kind, alerts: UUID) -> CallWebhook:
    """Prefect fills in the run; `tojson` writes quotes and escapes what would end them."""
    fields = {
        "subject": "deployment.name",
        "run_id": "flow_run.id | string",
        "run_name": "flow_run.name",
        "message": "(flow_run.state.message or '') | truncate(300)",
    }
    filled = ", ".join(f'"{name}": {{{{ ({what}) | tojson }}}}' for name, what in fields.items())
    return CallWebhook(block_document_id=alerts, payload=f'{{"kind": "{kind}", {filled}}}')


def _call(alerts: UUID, payload: dict[str, str]) -> CallWebhook:
    return CallWebhook(block_document_id=alerts, payload=json.dumps(payload))


def is_gone(automation: AutomationCore) -> bool:
    """Whether this is an automation of earlier versions, as they made it."""
    names = [automation_name(name) for name in GONE]
    acts = {type(action) for action in automation.actions}
    return automation.name in names and acts <= {DoNothing, ChangeFlowRunState}


def does_nothing(automation: AutomationCore) -> bool:
    """Whether this is as earlier versions made it: it only showed in the Event Feed."""
    return [type(action) for action in automation.actions] == [DoNothing]


async def upsert(
    client: PrefectClient, wanted: Iterable[AutomationCore], *, reset: bool
) -> tuple[list[str], list[str]]:
    """Make what is missing; returns the names made or put back, and what differs and was left.

    One is known by its name. Where there are several of a name, the one changed last counts.
    """
    done, different = [], []
    there: dict[str, list[Automation]] = {}
    for known in await every(client.read_automations, sort=AutomationSort.UPDATED_DESC):
        if is_gone(known):
            await client.delete_automation(known.id)
        there.setdefault(known.name, []).append(known)
    for automation in wanted:
        existing = there.get(automation.name)
        if not existing:
            await client.create_automation(automation)
            done.append(automation.name)
            continue
        idle = does_nothing(existing[0]) and not reset
        # Made by an earlier version: what it does is replaced; whether it is on is the operator's.
        kept = {"enabled": existing[0].enabled} if idle else {}
        new = automation.model_copy(update=kept)
        differences = _differences(existing[0], new)
        if differences and (reset or idle):
            # Prefect's client leaves out what was not given, an action's type among it: give all.
            fields = new.model_dump(mode="json", exclude={"owner_resource"})
            whole = AutomationCore.model_validate(fields)
            await client.update_automation(existing[0].id, whole)
            done.append(automation.name)
        elif differences:
            different.append(f"{automation.name}: {', '.join(differences)}")
    return done, different


def _differences(automation: Automation, wanted: AutomationCore) -> list[str]:
    there, here = automation.model_dump(), wanted.model_dump()  # as JSON, sets come in any order
    words = {"enabled": "enabled" if automation.enabled else "disabled"}
    names = ("enabled", "description", "tags", "trigger", "actions")
    return [words.get(name, name) for name in names if there[name] != here[name]]
