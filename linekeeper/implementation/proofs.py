"""What proves an automatic gate, and what is missing where nothing does. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from linekeeper.implementation.binding import is_new
from linekeeper.implementation.evaluate import GateState, Proof
from linekeeper.implementation.facts import ConnectionFacts, GateEvidence
from linekeeper.implementation.plan import PlannedGate
from linekeeper.implementation.standing import Standing
from linekeeper.preflight.evidence import MAX_AGE, REACHED
from linekeeper.store.tables import ImplementationSystem
from linekeeper.text import counted, health_name

COMPARED = "drift_zero"
"""The check of a gate that is proven by a comparison of the records after its opening."""
_SYNCED = frozenset({"done", "fulldone"})
_WELL = frozenset({"healthy", "degraded"})
_LOST = frozenset({"unreachable", "reauthorization_required", "inactive"})


@dataclass(frozen=True, slots=True)
class SystemTrouble:
    """A system whose connection was there and doesn't work now."""

    system: str
    connection_id: str
    health: str
    """`unreachable`, `reauthorization_required`, `inactive`, or `disconnected`."""
    since: datetime
    is_announced: bool = False
    """It was in use before the start: it is alerted of as ever, also before the go-live."""

    @property
    def words(self) -> str:
        return f"{self.system} ({health_name(self.health)})"

    @property
    def sentence(self) -> str:
        """What is wrong, and what ends it."""
        return {
            "reauthorization_required": "The customer has to log in again.",
            "inactive": (
                "Makini refuses the connection: its credits have run out, or access is not allowed."
            ),
            "disconnected": "The connection was disconnected: it has to be connected anew.",
        }.get(self.health, f"The connection is {health_name(self.health)}.")


@dataclass(frozen=True, slots=True)
class Lack:
    """What a gate still waits for."""

    text: str
    setback: bool = False
    """It was tried and failed: what leads up to it has to be done again."""
    trouble: SystemTrouble | None = None
    """Its system doesn't work."""


def prove(standing: Standing, evidence: GateEvidence) -> tuple[dict[str, Proof], dict[str, Lack]]:
    """The proofs there are; for each automatic gate without one what it waits for, and for every
    gate of a system in trouble that it is."""
    proofs: dict[str, Proof] = {}
    lacks: dict[str, Lack] = {}
    for gate in standing.plan.gates:
        system = standing.system(gate.system)
        if (trouble := _trouble(standing, system, evidence)) is not None:
            lacks[gate.id] = Lack(trouble.sentence, trouble=trouble)
        if gate.check is None:
            if (done := _configured(gate, system, evidence)) is not None:
                proofs[gate.id] = done
            continue
        proof = _CHECKS[gate.check](standing, system, evidence)
        if gate.check in _SINCE_OPENING and isinstance(proof, Proof):
            proof = _after_opening(proof, standing.states.get(gate.id), _SINCE_OPENING[gate.check])
        if gate.check == REACHED and isinstance(proof, Proof):
            proof = _recent(proof, standing.states.get(gate.id))
        if isinstance(proof, Proof):
            proofs[gate.id] = proof
        else:
            lacks.setdefault(gate.id, proof)
    return proofs, lacks


def _configured(
    gate: PlannedGate, system: ImplementationSystem | None, evidence: GateEvidence
) -> Proof | None:
    """What `workflow-configuration` has shown; a person may say it in the gate's form, too."""
    if gate.work != "workflow-configuration" or system is None:
        return None
    configured = evidence.configured.get(system.connection_id or "")
    return Proof(configured.at, configured.text, by=configured.by) if configured else None


_SINCE_OPENING = {
    COMPARED: "No reconciliation has been completed since this step opened.",
    "instance_answers": "No complete connection list has come since this step opened.",
}
"""What has to have been seen since a gate opened, and what is lacking until then.

A comparison from before may have had nothing to compare yet; an installation that answered before
may be away since.
"""


def _after_opening(proof: Proof, state: GateState | None, lacking: str) -> Proof | Lack:
    if state is None or state.opened_at is None or proof.at < state.opened_at:
        return Lack(lacking)
    return proof


def _recent(proof: Proof, state: GateState | None) -> Proof | Lack:
    """A check from long before the step opened says nothing of today's network."""
    opened = None if state is None else state.opened_at
    if opened is not None and proof.at < opened - MAX_AGE:
        return Lack(f"The last preflight is of {proof.at:%Y-%m-%d}: check again.")
    return proof


def troubles(lacks: Mapping[str, Lack]) -> tuple[SystemTrouble, ...]:
    return tuple(dict.fromkeys(lack.trouble for lack in lacks.values() if lack.trouble is not None))


_Result = Proof | Lack
_Check = Callable[[Standing, ImplementationSystem | None, GateEvidence], _Result]


def _credits(standing: Standing, _: ImplementationSystem | None, evidence: GateEvidence) -> _Result:
    for system in standing.systems:
        if not {system.id, system.connection_id} & evidence.credited:
            return Lack(f"No credits are reserved for {system.name}.")
    total = sum(system.cost for system in standing.systems)
    return Proof(
        standing.implementation.started_at, f"{counted(total, 'credit')} set aside (estimate)."
    )


def _preflight(
    standing: Standing, _: ImplementationSystem | None, evidence: GateEvidence
) -> _Result:
    latest: list[datetime] = []
    said: list[str] = []
    for system in standing.systems:
        if system.hosting == "cloud":  # beside systems on premises, whose network is looked at
            continue
        if system.target is None:
            return Lack(
                f"{system.name} has no host and port yet: run preflight for it with its target."
            )
        outside = evidence.preflights.get((system.target, "outside"))
        if outside is not None and not outside.passed:
            return Lack(f"{system.target} from outside: {outside.finding}", setback=True)
        inner = [
            (vantage, seen)
            for vantage in ("inside", "allowlisted")
            if (seen := evidence.preflights.get((system.target, vantage))) is not None
        ]
        if not inner:
            allowed = "through the VPN tunnel" if system.vpn else "from an allowed address"
            return Lack(f"{system.target} was not checked from inside, nor {allowed}.")
        vantage, last = max(inner, key=lambda item: item[1].at)
        if not last.passed:
            return Lack(f"{system.target} from {vantage}: {last.finding}", setback=True)
        latest.append(last.at)
        through = " through the VPN tunnel" if system.vpn and vantage == "allowlisted" else ""
        said.append(f"{system.target} from {vantage}{through}")
    return Proof(min(latest), f"Preflight found no problem: {', '.join(dict.fromkeys(said))}.")


def _instance(
    standing: Standing, _: ImplementationSystem | None, evidence: GateEvidence
) -> _Result:
    app = standing.implementation.app
    listing = evidence.listed.get(app)
    if listing is None or listing.url is None or listing.at < standing.implementation.started_at:
        return Lack(f"The Makini app {app} has not given its connection list since the start.")
    if is_cloud(listing.url):
        return Lack(
            f"The app {app} is Makini's cloud ({listing.url}), which says nothing of the "
            "customer's own installation: fill in a block Makini App with its API URL, and start "
            "the implementation with that app."
        )
    return Proof(listing.at, f"The installation at {listing.url} gave its connection list.")


def is_cloud(url: str) -> bool:
    """Whether a base URL is that of Makini's own cloud."""
    host = urlsplit(url).hostname or ""
    return host == "makini.io" or host.endswith(".makini.io")


def _token(
    standing: Standing, system: ImplementationSystem | None, evidence: GateEvidence
) -> _Result:
    connection = _connection(standing, system, evidence)
    if isinstance(connection, Lack):
        return connection
    if not connection.has_token:
        return Lack("It is connected, but Linekeeper holds no token for it.")
    if connection.health not in _WELL or connection.last_good_at is None:
        return Lack(f"The connection is {health_name(connection.health)}.")
    set_up = evidence.set_up.get(system.id if system else "")
    if set_up is not None and set_up.verified_at is not None:
        return Proof(
            set_up.verified_at,
            "authentication-setup read a record with the new token on "
            f"{set_up.verified_at:%Y-%m-%d %H:%M} UTC.",
        )
    if set_up is not None and set_up.is_open:
        return Lack("The customer has logged in; no record was read with the new token yet.")
    return Proof(connection.last_good_at, "The connection answers with its token.")


def _synced(
    standing: Standing, system: ImplementationSystem | None, evidence: GateEvidence
) -> _Result:
    connection = _connection(standing, system, evidence)
    if isinstance(connection, Lack):
        return connection
    if (
        connection.sync_status is None
        and connection.setup == "live"
        and connection.last_sync_at is not None
    ):
        return Proof(connection.last_sync_at, "Makini lists it as active, and it has synced.")
    if connection.sync_status not in _SYNCED or connection.last_good_at is None:
        return Lack(f"Sync status: {connection.sync_status or 'not known yet'}.")
    return Proof(
        connection.last_sync_at or connection.last_good_at, f"Sync status {connection.sync_status}."
    )


def _delivered(
    standing: Standing, system: ImplementationSystem | None, evidence: GateEvidence
) -> _Result:
    facts = _connection(standing, system, evidence)
    if isinstance(facts, Lack):
        return facts
    if facts.delivered_at is None:
        return Lack("No signed delivery of this connection was processed yet.")
    return Proof(facts.delivered_at, "A signed delivery arrived and was processed.")


def _reconciled(
    standing: Standing, system: ImplementationSystem | None, evidence: GateEvidence
) -> _Result:
    connection = _connection(standing, system, evidence)
    if isinstance(connection, Lack):
        return connection
    if connection.polled_at is None:
        return Lack(connection.poll_trouble or "It was not reconciled yet.")
    if connection.drift:
        return Lack(f"The last reconciliation found {connection.drift} that the webhooks missed.")
    return Proof(connection.polled_at, "The last reconciliation found no drift.")


def _trouble(
    standing: Standing, system: ImplementationSystem | None, evidence: GateEvidence
) -> SystemTrouble | None:
    facts = None if system is None else evidence.connections.get(system.connection_id or "")
    if system is None or facts is None:
        return None
    health = "disconnected" if facts.setup == "disconnected" else facts.health
    if health != "disconnected" and (health not in _LOST or facts.last_good_at is None):
        return None  # what never worked yet is what its gates wait for
    was_there = facts.came_before(standing.implementation.started_at)
    return SystemTrouble(system.name, facts.id, health, facts.health_since, was_there)


def _connection(
    standing: Standing, system: ImplementationSystem | None, evidence: GateEvidence
) -> ConnectionFacts | Lack:
    known = None if system is None else evidence.connections.get(system.connection_id or "")
    if known is not None:
        return known
    return Lack(
        "The customer has not connected it yet: they have to log in by the connect link."
        + "".join(
            f" Makini's list has {name}, and does not say whether it was connected before the "
            "start: it is taken once the customer logs in by the link."
            for name in _unclear(standing, evidence)
        )
    )


def _unclear(standing: Standing, evidence: GateEvidence) -> list[str]:
    """The customer's connections that may be older than the start, or new: nothing says it."""
    taken = {system.connection_id for system in standing.systems}
    since = standing.implementation.started_at
    return sorted(
        facts.name
        for facts in evidence.connections.values()
        if facts.customer_id == standing.customer.id
        and facts.id not in taken
        and facts.setup != "disconnected"
        and is_new(facts, since, evidence.known_since) is None
    )


_CHECKS: Mapping[str, _Check] = {
    "credits_reserved": _credits,
    REACHED: _preflight,
    "instance_answers": _instance,
    "token_works": _token,
    "first_sync_done": _synced,
    "delivery_arrived": _delivered,
    COMPARED: _reconciled,
}
