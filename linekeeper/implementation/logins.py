"""Whose turn a login is: the customer's until they have logged in, ours until it is read. Pure."""

from datetime import datetime

from linekeeper.implementation.facts import GateEvidence
from linekeeper.implementation.standing import Standing, is_handed_over
from linekeeper.implementation.template import Owner
from linekeeper.store.tables import Gate

LOGIN = "token_works"
"""The check of a gate that a login, and a read with its token, prove."""


def turns_over(standing: Standing, evidence: GateEvidence) -> list[tuple[Gate, Owner, datetime]]:
    """The open gates that go over to another, to whom, and since when."""
    handovers: list[tuple[Gate, Owner, datetime]] = []
    for gate in standing.plan.gates:
        row = standing.gates[gate.id]
        if gate.check != LOGIN or row.status != "open" or row.opened_at is None:
            continue
        system = standing.system(gate.system)
        facts = evidence.connections.get((system and system.connection_id) or "")
        set_up = evidence.set_up.get(system.id if system else "")
        asked_at = set_up.logins_from if set_up is not None else None
        login = facts.logged_in_at if facts is not None else None
        if login is not None and asked_at is not None and login < asked_at:
            login = None  # a new one was asked for since
        if login is not None and row.owner == "customer":
            handovers.append((row, "us", login))
        elif login is None and asked_at is not None and is_handed_over(row):
            handovers.append((row, "customer", asked_at))
    return handovers
