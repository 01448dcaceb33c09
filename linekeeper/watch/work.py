"""Work that has to come by, and what it means that it does not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ExpectedWork:
    """Work that must come by."""

    least: timedelta
    """After so long at the least it is missed: a reconcile may read for long, a digest may rest
    over a weekend."""
    effect: str
    """What it means that nobody does it."""
    called: str = ""
    """A word for it where people have one; else it is a run of the deployment."""
    of_apps: bool = False
    """It has to be done as soon as there is an app, whether it ever was or not; the rest is missed
    once it was done."""
    pauses: bool = False
    """It stands still while an operator has paused everything: nobody is notified of it then."""
    next_step: str = "`linekeeper doctor` says why runs are late: a worker, the pool, a schedule."


WORK: Mapping[str, ExpectedWork] = {
    "sweep": ExpectedWork(
        timedelta(minutes=10),  # twice as long as from one to the next
        "Connections are not being checked.",
        called="sweep",
        of_apps=True,
        pauses=True,
    ),
    "reconcile": ExpectedWork(
        timedelta(hours=1),
        "Changes that webhooks missed are not being found.",
        called="reconcile",
        of_apps=True,
        pauses=True,
    ),
    "refresh-tokens": ExpectedWork(
        timedelta(hours=26),
        "Access tokens are not being renewed, and nobody is notified of logins that end.",
        of_apps=True,
    ),
    "process-webhooks": ExpectedWork(
        timedelta(hours=3), "Webhooks that the consumer left are not being applied."
    ),
    "advance-implementations": ExpectedWork(
        timedelta(hours=6),
        "Nobody is notified when an implementation is late, and implementations whose run was "
        "lost stand still.",
        pauses=True,
    ),
    "preflight": ExpectedWork(
        timedelta(hours=74), "Changes of a customer's network are not being found.", pauses=True
    ),
    "housekeeping": ExpectedWork(timedelta(hours=74), "Expired data is not being removed."),
    "digest": ExpectedWork(
        timedelta(hours=74), "Nobody gets the daily summary.", called="digest", pauses=True
    ),
    "backup": ExpectedWork(
        timedelta(days=8),
        "What would be lost with this database grows every day.",
        called="backup",
        next_step="Run `linekeeper backup FILE`, and let a timer do it daily; "
        "`linekeeper doctor` shows what else is overdue.",
    ),
}


def works_of(deployments: Iterable[str]) -> list[str]:
    """The work that runs of these deployments do. Pure."""
    names = {_DEPLOYMENTS.get(work, work): work for work in WORK}
    return sorted(names[each] for each in set(deployments) if each in names)


_DEPLOYMENTS = {"sweep": "health-sweep"}
"""What the deployment of a work is called, where that is not the same."""
