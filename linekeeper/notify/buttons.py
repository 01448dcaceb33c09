"""The buttons under an incident's message, and what a press of one says. Pure."""

from collections.abc import Mapping
from typing import Any

from linekeeper.notify.view import IncidentView, Links

ACKNOWLEDGE, SNOOZE, SEND_AGAIN, OPEN_RUN = (
    "linekeeper_acknowledge",
    "linekeeper_snooze",
    "linekeeper_send_again",
    "linekeeper_open_run",
)
_SNOOZES = {"1h": "1 hour", "4h": "4 hours", "monday": "Monday"}


def buttons(view: IncidentView, links: Links) -> dict[str, Any]:
    """Acknowledge, Snooze, Send link again, Open run: those that make sense for `view`."""
    elements: list[dict[str, Any]] = []
    if view.acknowledged_at is None:
        elements.append(_button("Acknowledge", ACKNOWLEDGE, view.id, style="primary"))
    elements.append(
        {
            "type": "static_select",
            "action_id": SNOOZE,
            "placeholder": _plain("Snooze"),
            "options": [
                {"text": _plain(label), "value": f"{choice}:{view.id}"}
                for choice, label in _SNOOZES.items()
            ],
        }
    )
    if view.kind == "reauthorization_required":
        elements.append(_button("Send link again", SEND_AGAIN, view.id))
    if view.run_id and (url := links.run(view.run_id)):
        elements.append(
            {
                "type": "button",
                "action_id": OPEN_RUN,
                "text": _plain("Open run"),
                "url": url,
            }
        )
    return {"type": "actions", "block_id": "linekeeper", "elements": elements}


def pressed(action: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """What was pressed: the action, the incident, and for a snooze its length; None if not ours."""
    name = action.get("action_id")
    if name == SNOOZE:
        option = action.get("selected_option")
        value = str(option.get("value", "")) if isinstance(option, dict) else ""
        choice, _, incident_id = value.partition(":")
        return (SNOOZE, incident_id, _SNOOZES[choice]) if choice in _SNOOZES else None
    if name in (ACKNOWLEDGE, SEND_AGAIN):
        return str(name), str(action.get("value", "")), ""
    return None


def _button(label: str, action: str, value: str, **more: str) -> dict[str, Any]:
    return {
        "type": "button",
        "action_id": action,
        "text": _plain(label),
        "value": value,
        **more,
    }


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}
