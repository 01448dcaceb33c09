"""Random changes, lost and late webhooks, crashes and polls: the index is always right again."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, update
from sqlmodel import col, select

import sandbox
from linekeeper.clock import utcnow
from linekeeper.reconcile.decisions import NoDeletion, decide_deletions
from linekeeper.reconcile.identity import source_time
from linekeeper.reconcile.policy import POLICY
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import new_id
from linekeeper.store.tables import Change, Connection, Drift, Lease, Record, Watermark
from sandbox.fleet import Connection as Source
from tests.databases import Engine
from tests.reconcile.conftest import CallsWith, adopt, deliver, pointed_at, process, run

ENTITY = "eam/assets"
ROUTE = "/api/eam/assets"
T = TypeVar("T")


class World:
    """A sandbox, a database and a runtime, in a loop of their own."""

    def __init__(self, runner: asyncio.Runner, home: Settings) -> None:
        self.runner = runner
        self._home = home
        self._leave: list[Any] = []

    def do(self, step: Coroutine[Any, Any, T]) -> T:
        """Run `step` to its end."""
        return self.runner.run(step)

    async def enter(self) -> None:
        """Start everything."""
        box = sandbox.Settings(port=0, connections=0, records_per_connection=40, page_limit=6)
        serving = sandbox.serving(box)
        self.served = await serving.__aenter__()
        self._leave.append(serving)
        managed = pointed_at(self._home, self.served.url, makini_entities=(ENTITY,))
        opening = Runtime.open(managed)
        self.rt = await opening.__aenter__()
        self._leave.append(opening)

    async def leave(self) -> None:
        """End everything."""
        for one in reversed(self._leave):
            await one.__aexit__(None, None, None)


class Machine(RuleBasedStateMachine):
    """One connection of its own for each example; the database goes on living."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.source: Source = self.box.create(
            name=f"Customer {new_id()} · UpKeep", email="it@example.com", provider="upkeep"
        )
        self.held: list[list[str]] = []
        self.id = self.do(self._adopt())
        self.do(self._poll())

    @property
    def box(self) -> Any:
        """The sandbox's world."""
        return self.world.served.world

    def do(self, step: Coroutine[Any, Any, T]) -> T:
        """Run `step` to its end."""
        return self.world.do(step)

    async def _adopt(self) -> str:
        await adopt(self.world.rt)
        async with self.world.rt.store.read() as session:
            found = await session.scalar(
                select(Connection.id).where(col(Connection.makini_key) == self.source.key)
            )
        assert found is not None
        return found

    @rule(
        make=st.integers(0, 2),
        change=st.integers(0, 5),
        webhook=st.sampled_from(["lost", "comes", "late"]),
    )
    def change(self, make: int, change: int, webhook: str) -> None:
        """Something changes at the source, and its webhook comes, is late or is lost."""
        done = self.box.change_records(
            self.source, ENTITY, make=make, change=change, announce=False
        )
        keys = [*done["made"], *done["changed"]]
        if webhook == "comes":
            self.do(self._deliver(keys))
        elif webhook == "late":
            self.held.append(keys)

    @rule(delete=st.integers(1, 2))
    def delete(self, delete: int) -> None:
        """Something is deleted; nobody says so."""
        self.box.change_records(self.source, ENTITY, delete=delete)

    @rule()
    def the_late_ones_come(self) -> None:
        """What was held up is delivered, perhaps out of order."""
        for keys in reversed(self.held):
            self.do(self._deliver(keys))
        self.held = []

    @rule()
    def process(self) -> None:
        """The consumer applies what waits."""
        self.do(process(self.world.rt))

    @rule(full=st.booleans())
    def poll(self, full: bool) -> None:
        """A run to its end."""
        self.do(self._poll(full=full))

    @rule(
        full=st.booleans(),
        paging=st.sampled_from(["page", "cursor"]),
        call=st.integers(2, 5),
        make=st.integers(0, 2),
        delete=st.integers(0, 2),
    )
    def poll_while_pages_shift(
        self, full: bool, paging: str, call: int, make: int, delete: int
    ) -> None:
        """A run under which things change at the source, and nobody says so."""

        def shift() -> None:
            self.box.change_records(
                self.source, ENTITY, make=make, change=1, delete=delete, announce=False
            )

        self.box.faults.paging = paging
        self.box.calls = CallsWith(ROUTE, call, shift)
        self.do(self._poll(full=full))
        self.box.faults.paging, self.box.calls = "", Counter()

    @rule(full=st.booleans(), call=st.integers(1, 6))
    def crash(self, full: bool, call: int) -> None:
        """A run that ends in the middle of things."""
        self.do(self._crash(full=full, call=call))

    @invariant()
    def no_watermark_ran_ahead(self) -> None:
        """What the source changed up to the watermark is in the index, except what was undone."""
        index, mark = self.do(self._index()), self.do(self._mark())
        if mark is None or mark.position is None:
            return
        for key, time in self._truth().items():
            if time is not None and time <= mark.position:
                assert key in index, key
                assert index[key] >= time

    def teardown(self) -> None:
        """In the end all of it agrees."""
        self.the_late_ones_come()
        self.process()
        self.poll(full=False)
        for _ in range(2):
            self.do(self._poll(full=True))
        self.do(self._accept())
        self.poll(full=False)
        self._index_is_right()
        self.do(self._feed_is_right())
        self.box.remove(self.source)
        self.do(self._forget())

    # Underneath

    def _index_is_right(self) -> None:
        """It has what the source has; what is older than a window's oldest record is unknown."""
        index, truth, mark = self.do(self._index()), self._truth(), self.do(self._mark())
        assert mark is not None
        if mark.window_since is not None:
            dated = [time for time in truth.values() if time is not None]
            assert not dated or mark.window_since == min(dated)
            index = {
                key: time
                for key, time in index.items()
                if key in truth or time >= mark.window_since
            }
        assert index == truth

    async def _deliver(self, keys: list[str]) -> None:
        if keys:
            await deliver(self.world.rt, self.source.key, keys)

    async def _poll(self, *, full: bool = False) -> None:
        rt = self.world.rt
        async with rt.store.write() as session:  # as if the time to confirm had come
            await session.execute(
                update(Watermark)
                .where(col(Watermark.confirm_at).is_not(None))
                .values(confirm_at=utcnow())
            )
            await session.execute(
                update(Record)
                .where(col(Record.absent_since).is_not(None))
                .values(absent_since=utcnow() - POLICY.confirm)
            )
        done = await run(rt, connections=[self.id], full=full)
        assert not done.failures

    async def _crash(self, *, full: bool, call: int) -> None:
        rt, box = self.world.rt, self.box
        task = asyncio.create_task(run(rt, connections=[self.id], full=full))
        before = box.calls["GET", ROUTE]
        while not task.done() and box.calls["GET", ROUTE] < before + call:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        async with rt.store.write() as session:
            await session.execute(delete(Lease))  # they run out

    async def _accept(self) -> None:
        try:
            await decide_deletions(self.world.rt, self.id, "accept", by="test", now=utcnow())
        except NoDeletion:
            return

    async def _mark(self) -> Watermark | None:
        async with self.world.rt.store.read() as session:
            return await session.get(Watermark, (self.id, ENTITY))

    async def _index(self) -> dict[str, Any]:
        async with self.world.rt.store.read() as session:
            rows = await session.scalars(
                select(Record).where(
                    col(Record.connection_id) == self.id, col(Record.deleted_at).is_(None)
                )
            )
            return {row.key: row.updated_at for row in rows}

    def _truth(self) -> dict[str, Any]:
        truth = self.box.records.truth(self.source, ENTITY)[ENTITY]
        return {key: source_time({"updatedAt": time}) for key, time in truth.items()}

    async def _feed_is_right(self) -> None:
        """Numbered without a gap; each change once; each makes sense after the one before."""
        async with self.world.rt.store.read() as session:
            rows = list(
                await session.scalars(
                    select(Change)
                    .where(col(Change.connection_id) == self.id)
                    .order_by(col(Change.seq))
                )
            )
            drift = list(
                await session.scalars(select(Drift).where(col(Drift.connection_id) == self.id))
            )
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        live: dict[str, bool] = {}
        times: dict[str, Any] = {}
        for row in rows:
            assert live.get(row.key, row.op != "inserted") == (row.op != "inserted"), row
            live[row.key] = row.op != "deleted"
            if row.updated_at is not None:
                assert row.key not in times or row.updated_at > times[row.key]
                times[row.key] = row.updated_at
        polled = [row for row in rows if row.source == "poll" and row.recovered]
        assert sum(row.missed for row in drift) <= len(polled)
        assert sum(row.missed - row.late for row in drift) == sum(
            row.announced_at is None for row in polled
        )
        announced = sum(row.announced_at is not None for row in rows if row.op != "deleted")
        assert sum(row.webhooks_seen + row.late for row in drift) == announced
        assert all(row.due is None for row in rows)

    async def _forget(self) -> None:
        async with self.world.rt.store.write() as session:
            await session.execute(
                update(Connection).where(col(Connection.id) == self.id).values(setup="disconnected")
            )


def play(engine: Engine, template: Settings, home: Path, *, examples: int, steps: int) -> None:
    """Run the machine in a thread, where it has a loop of its own."""
    failed: list[BaseException] = []

    def body() -> None:
        with asyncio.Runner() as runner:
            own = runner.run(engine.make(home, template=template))
            world = World(runner, own)
            runner.run(world.enter())
            try:
                machine = type("Playing", (Machine,), {"world": world})
                run_state_machine_as_test(
                    machine,
                    settings=settings(
                        max_examples=examples,
                        stateful_step_count=steps,
                        derandomize=True,
                        database=None,
                        phases=[Phase.generate],
                        suppress_health_check=list(HealthCheck),
                    ),
                )
            except BaseException as error:
                failed.append(error)
            finally:
                runner.run(world.leave())
                runner.run(engine.drop(own))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def test_whatever_happens_index_and_feed_are_right_in_the_end(
    engine: Engine, migrated: Settings, tmp_path: Path
) -> None:
    play(engine, migrated, tmp_path / "home", examples=4, steps=10)


@pytest.mark.soak
def test_whatever_happens_for_long(engine: Engine, migrated: Settings, tmp_path: Path) -> None:
    play(engine, migrated, tmp_path / "home", examples=150, steps=40)
