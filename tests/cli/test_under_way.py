"""`status` says what is under way, and of single connections only how many."""

from datetime import timedelta

from linekeeper.cli.status import under_way
from linekeeper.clock import utcnow
from linekeeper.store import new_id
from linekeeper.store.leases import READS, TOKENS, lease_name
from linekeeper.views.glance import LeaseGlance


def test_work_on_connections_is_counted() -> None:
    until = utcnow() + timedelta(minutes=1)
    first, second = new_id(), new_id()
    held = [("health-sweep", None), ("reconcile-full", "all"), (READS, first), (TOKENS, first)]
    leases = [
        LeaseGlance(lease_name(kind, about), "vm:1", until, kind, about)
        for kind, about in [*held, (TOKENS, second)]
    ]
    said = "health-sweep (vm:1), reconcile-full:all (vm:1), work on 2 connections"
    assert under_way(leases) == said
    assert under_way(leases[:1]) == "health-sweep (vm:1)"
