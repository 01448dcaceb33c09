"""Why a health is not what Makini says last, for people. Pure."""

from msgspec.structs import replace

from linekeeper.health.evidence import CACHED, Evidence, Health, Judged, Observation, Outcome
from linekeeper.text import counted

_WORDS = {
    "webhook": "Makini's event said that the login is lost",
    "probe": "a call was refused, or its status said fail,",
    "read": "a read was refused",
    "reconcile": "a read was refused",
    "reconnect": "a read was refused",
}


def explained(observation: Observation, judged: Judged) -> Observation:
    """`observation` with what it contradicts, where the health is unknown or lost all the same."""
    if judged.disputed and judged.health in (Health.unknown, Health.reauthorization_required):
        return replace(observation, message=_dispute(judged, observation))
    return observation


def _dispute(judged: Judged, observation: Observation) -> str:
    if observation.outcome is Outcome.login_lost and observation.source != "webhook":
        back = f" of {judged.restored_at:%H:%M} UTC" if judged.restored_at else ""
        word = f"Makini's status still says fail, perhaps from before the login{back}"
    else:
        word = _claim(judged)
        cached = (
            "its list says active"
            if observation.outcome is Outcome.listed or judged.evidence is Evidence.listed
            else f"its status says {observation.sync_status or 'well'}"
        )
        is_cached = observation.source in CACHED or observation.outcome is Outcome.login_lost
        word += f", but {cached}" if is_cached else ""
    return f"The evidence contradicts itself: {word}. No record may be read to settle it."


def _claim(judged: Judged) -> str:
    if judged.lost_by:
        said = _WORDS.get(judged.lost_by, f"{judged.lost_by} said that the login is lost")
        return f"{said} at {judged.lost_at:%Y-%m-%d %H:%M} UTC" if judged.lost_at else said
    if not judged.refusals:
        last = f", the last at {judged.asked_at:%Y-%m-%d %H:%M} UTC" if judged.asked_at else ""
        return f"calls of the connection failed{last}"
    calls = counted(judged.refusals, "call")
    last = f", the last at {judged.refused_at:%H:%M} UTC" if judged.refused_at else ""
    return f"Makini refused {calls} of the product{last}"
