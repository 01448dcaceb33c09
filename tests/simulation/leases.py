"""Who holds which lease, watched from outside: never two at once."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.loop import HOST, Host

MARGIN = timedelta(seconds=1)


class Leases:
    """Every lease that was taken and not given back, with the process that holds it."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._held: dict[str, tuple[str, Host | None, datetime]] = {}
        self._over: set[str] = set()
        """Those written by a clock that was a day behind: they are over once it is right."""
        self.wrong: list[str] = []

    def taking(self, acquire: Any) -> Any:
        """`acquire`, watched."""

        async def watched(
            store: Any, kind: str, owner: str, *, seconds: float, now: Any, **more: Any
        ) -> Any:
            held = await acquire(store, kind, owner, seconds=seconds, now=now, **more)
            if held is not None:
                self._took(held.name, owner, seconds)
            return held

        return watched

    def renewing(self, renew: Any) -> Any:
        """`renew`, watched."""

        async def watched(store: Any, held: Any, *, seconds: float, now: Any) -> Any:
            kept = await renew(store, held, seconds=seconds, now=now)
            if kept and held.name in self._held:
                until = self._now() + timedelta(seconds=seconds)
                self._held[held.name] = (held.owner, HOST.get(), until)
                self._dated(held.name)
            return kept

        return watched

    def giving_back(self, release: Any) -> Any:
        """`release`, watched."""

        async def watched(store: Any, held: Any, *, now: Any) -> None:
            if self._held.get(held.name, ("",))[0] == held.owner:
                del self._held[held.name]
            await release(store, held, now=now)

        return watched

    def held(self) -> list[str]:
        """Those that somebody holds now whose process lives."""
        now = self._now()
        return sorted(
            name for name, (_, host, until) in self._held.items()
            if until > now and host is not None and not host.dead
        )  # fmt: skip

    def _took(self, name: str, owner: str, seconds: float) -> None:
        now = self._now()
        before = self._held.get(name)
        if before is not None and before[0] != owner:
            holder, host, until = before
            if (
                not (host is None or host.dead)
                and host.skew == timedelta()
                and name not in self._over
                and not _is_off(HOST.get())
                and now < until - MARGIN
            ):
                self.wrong.append(f"{name} was taken by {owner} while {holder} held it")
        self._held[name] = (owner, HOST.get(), now + timedelta(seconds=seconds))
        self._dated(name)

    def _dated(self, name: str) -> None:
        (self._over.add if _is_off(HOST.get()) else self._over.discard)(name)


def _is_off(host: Host | None) -> bool:
    """Whether its clock is so wrong that every lease is over by it."""
    return host is not None and abs(host.skew) > timedelta(hours=1)
