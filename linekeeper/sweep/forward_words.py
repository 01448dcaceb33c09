"""What is said of messages that the product did not take, and of trouble that is over. Pure."""

from collections.abc import Mapping

from linekeeper.text import counted

_OVER: Mapping[str, str] = {
    "webhooks_dead": "No webhook is dead any more that a replay can help.",
    "webhooks_failing": "Few webhooks fail.",
    "webhooks_unrouted": "No webhook of the last day is without a connection.",
    "webhooks_forged": "Hardly any delivery is refused now.",
    "webhooks_behind": "No webhook waits for long any more, and they are applied in time.",
    "webhooks_silent": "Nothing is silent for much longer than usual any more.",
    "forward_dead": "No message that was given up is left to hand on.",
    "forward_refused": "The product refuses no message now.",
    "forward_behind": "Messages for the product are no longer held up as a whole.",
}
"""Why each kind is over; whatever ended it, this is so."""


def untaken_words(dead: int, why: str, lost: int) -> str:
    """What is said of `dead` messages, which a replay hands on, and of `lost` ones."""
    said = []
    if dead:
        said.append(f"{counted(dead, 'message')} not handed on to the product: {why}")
    if lost:
        said.append(
            f"{lost_words(lost)}: have the product read what it lacks. This incident ends a day "
            "after the last one"
        )
    return "; ".join(said)


def lost_words(count: int) -> str:
    """What is said of messages that nobody can hand on."""
    are = "the webhook it is about is" if count == 1 else "the webhooks they are about are"
    return f"{counted(count, 'message')} can't be handed on any more, as {are} no longer kept"


def resolved_words(kind: str, lost: int) -> str:
    """What is said once this kind of trouble with the stream of webhooks is over."""
    if kind == "forward_dead" and lost:
        return f"What was left was never handed on: {lost_words(lost)}"
    return _OVER[kind]
