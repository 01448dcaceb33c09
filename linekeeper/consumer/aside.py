"""Events whose entity can't be read step aside, and what came for it is behind them. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from linekeeper.consumer.held import HeldEvent
from linekeeper.inbox.claim import Event


def stepping_aside(queue: Sequence[HeldEvent]) -> list[HeldEvent]:
    """Those of `queue` that name records of the first one's entity, where that can't be read
    though its connection answers; each in the order in which it waits from now on."""
    order = queue[0].event.aside
    if order is None or not queue[0].may_step_aside:
        return []
    return [
        replace(held, event=held.event._replace(ordering_key=order))
        for held in queue
        if held.event.aside == order
    ]


def in_order(events: Sequence[Event], held: Iterable[str]) -> list[Event]:
    """The same events, each behind those of its entity that stepped aside, where there are any
    among them or in the orders that are `held`."""
    orders = set(held)
    ordered: list[Event] = []
    for event in events:
        order = event.aside
        placed = event._replace(ordering_key=order) if order in orders and order else event
        orders.add(placed.ordering_key)
        ordered.append(placed)
    return ordered
