"""Connections as the benchmarks of the event path and of tokens use them: live and healthy."""

from linekeeper.store import new_id
from linekeeper.store.tables import Connection


def healthy_connections(count: int) -> list[Connection]:
    """`count` connections of the app `default`, with the keys `c0`, `c1`, …"""
    return [
        Connection(
            id=new_id(),
            app="default",
            makini_key=f"c{number}",
            name=f"C{number}",
            slug=f"c{number}",
            provider="SAP ECC",
            setup="live",
            health="healthy",
        )
        for number in range(count)
    ]
