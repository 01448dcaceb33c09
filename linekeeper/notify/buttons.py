"""The buttons under an incident's message, the dialog behind one, and what a press says. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slack_sdk.models.blocks import (
    ActionsBlock,
    ButtonElement,
    CheckboxesElement,
    InputBlock,
    Option,
    PlainTextInputElement,
    StaticSelectElement,
)
from slack_sdk.models.views import View

from linekeeper.notify.view import IncidentView
from linekeeper.text import shown, without_angles

ACKNOWLEDGE, MORE, DIALOG = "linekeeper_acknowledge", "linekeeper_more", "linekeeper_dialog"
SNOOZE, NOTE, AGAIN = "snooze", "note", "again"
"""The fields of the dialog."""
_SNOOZES = {"1h": "1 hour", "4h": "4 hours", "monday": "Monday"}
_TITLE_LIMIT = 24
_LABEL_LIMIT = 150
_NOTE_LIMIT = 2_000


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a person filled in."""

    incident_id: str
    snooze: str = ""
    note: str = ""
    is_link_wanted: bool = False


def buttons(view: IncidentView) -> ActionsBlock:
    """Acknowledge, and what else there is to do, in a dialog; all else is links."""
    elements = [
        ButtonElement(text="Snooze or note …", action_id=MORE, value=view.id),
    ]
    if view.acknowledged_at is None:
        elements.insert(
            0,
            ButtonElement(
                text="Acknowledge", action_id=ACKNOWLEDGE, value=view.id, style="primary"
            ),
        )
    return ActionsBlock(block_id="linekeeper", elements=elements)


def pressed(action: Mapping[str, Any]) -> tuple[str, str] | None:
    """What was pressed and about which incident; None if it is not ours."""
    name = action.get("action_id")
    return (str(name), str(action.get("value", ""))) if name in (ACKNOWLEDGE, MORE) else None


def dialog(view: IncidentView) -> dict[str, Any]:
    """Snooze, a note and, where somebody has to log in, the link once more."""
    title = shown(view.title, _LABEL_LIMIT - 10, escape=without_angles)
    blocks = [
        InputBlock(
            block_id=SNOOZE,
            label="Snooze",
            hint="Reminders and escalation wait; the message goes on being edited.",
            optional=True,
            element=StaticSelectElement(
                action_id=SNOOZE,
                placeholder="Not snoozed",
                options=[Option(text=label, value=value) for value, label in _SNOOZES.items()],
            ),
        ),
        InputBlock(
            block_id=NOTE,
            label=f"Note on {title}",
            hint="It goes into the thread and the timeline.",
            optional=True,
            element=PlainTextInputElement(action_id=NOTE, multiline=True, max_length=_NOTE_LIMIT),
        ),
    ]
    if view.kind == "reauthorization_required":
        blocks.append(
            InputBlock(
                block_id=AGAIN,
                label="Connect link",
                optional=True,
                element=CheckboxesElement(
                    action_id=AGAIN, options=[Option(text="Send the link again", value=AGAIN)]
                ),
            )
        )
    shell = View(
        type="modal",
        callback_id=DIALOG,
        private_metadata=view.id,
        title="Snooze or note"[:_TITLE_LIMIT],
        submit="Save",
        close="Cancel",
        blocks=blocks,
    )
    return dict(shell.to_dict())


def submitted(view: Mapping[str, Any]) -> Submitted | None:
    """What was filled in in our dialog; None if it is not ours."""
    if view.get("callback_id") != DIALOG:
        return None
    chosen = _given(view, SNOOZE).get("selected_option")
    ticked = _given(view, AGAIN).get("selected_options")
    value = chosen.get("value") if isinstance(chosen, dict) else ""
    return Submitted(
        incident_id=str(view.get("private_metadata", "")),
        snooze=_SNOOZES.get(str(value), ""),
        note=str(_given(view, NOTE).get("value") or "").strip()[:_NOTE_LIMIT],
        is_link_wanted=bool(ticked),
    )


def _given(view: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value: Any = view
    for step in ("state", "values", name, name):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
