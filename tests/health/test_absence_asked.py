"""What is asked of a connection that Makini's list lacks, and what its answers mean."""

from datetime import timedelta

import pytest
from msgspec import to_builtins
from msgspec.structs import replace
from sqlalchemy import delete, select, update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Judged, load
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.reconcile.doubt import observe_lost_login
from linekeeper.reconcile.target import load_targets
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential, Incident, IncidentConnection
from tests.health.test_absence import forget, lists, minutes_pass, open_ones, unlist
from tests.health.test_sweep import adopt, connections, control, incidents, sweep
from tests.reconcile.test_clock_ahead import off


async def health_of(rt: Runtime, *about: Connection) -> set[str]:
    ids = {connection.id for connection in about}
    return {found.health for found in await connections(rt) if found.id in ids}


async def kinds_of(rt: Runtime, connection: Connection) -> set[str]:
    """Of what kind the open incidents are that it is in."""
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(col(Incident.kind))
            .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
            .where(
                col(IncidentConnection.connection_id) == connection.id,
                col(IncidentConnection.left_at).is_(None),
                col(Incident.resolved_at).is_(None),
            )
        )
        return set(rows)


async def test_a_connection_that_the_list_has_again_is_probed_when_it_is_due(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Universe 31866: that the list had it counted as if it had been asked itself."""
    spread = rt.settings.model_copy(update={"probe_minutes": 10})
    async with Runtime.open(spread) as manager:
        await sweep(manager)
        [known, *_] = await connections(manager)
        back = unlist(fleet, known)
        await sweep(manager)
        back[known.makini_key].active_word = "Synchronizing"
        fleet.world.connections |= back
        with off(timedelta(minutes=9)):
            began = utcnow()
            await sweep(manager)
        [found] = [each for each in await connections(manager) if each.id == known.id]
    assert found.unlisted_since is None
    assert found.last_checked_at is not None
    assert found.last_checked_at >= began


@pytest.mark.parametrize("share", ["most", "one"])
async def test_a_refused_call_of_a_connection_that_the_list_lacks_is_no_lost_login(
    rt: Runtime, fleet: sandbox.Served, share: str
) -> None:
    """C1: the token of a connection that is gone is refused as a lost login is."""
    await adopt(rt, fleet)
    gone = (await connections(rt))[: 8 if share == "most" else 1]
    for connection in gone:
        fleet.world.remove(fleet.world.connections[connection.makini_key])
    await sweep(rt)
    assert await health_of(rt, *gone) == {"unknown"}
    assert "reauthorization_required" not in {incident.kind for incident in await incidents(rt)}
    await sweep(rt)
    await sweep(rt)
    kinds = {incident.kind for incident in await open_ones(rt)}
    if share == "most":
        assert await health_of(rt, *gone) == {"unknown"}
        assert {found.setup for found in await connections(rt)} == {"live"}
        assert "list_truncated" in kinds
    else:
        assert kinds == {"disconnected"}
    everything = {incident.kind for incident in await incidents(rt)}
    assert "reauthorization_required" not in everything


async def test_a_refused_poll_of_a_connection_that_the_list_lacks_is_no_lost_login(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [gone, *_] = await connections(rt)
    fleet.world.remove(fleet.world.connections[gone.makini_key])
    await lists(rt, 1)
    app = await rt.app("default")
    [target] = await load_targets(rt, app, [gone.id])
    error = MakiniError(
        ErrorKind.unauthorized, "no", app=app.name, connection=target.ref, status=401
    )
    await observe_lost_login(rt, target, error)
    assert await health_of(rt, gone) == {"unknown"}


async def test_once_it_is_listed_again_a_refused_call_counts(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [hidden, *_] = await connections(rt)
    await control(fleet, "settings", mint_shape="refused")
    fleet.world.tokens.kill(fleet.world.connections[hidden.makini_key])
    back = forget(fleet, hidden)
    await sweep(rt)
    assert await health_of(rt, hidden) == {"unknown"}
    fleet.world.connections |= back
    await sweep(rt)
    assert await health_of(rt, hidden) == {"reauthorization_required"}


async def test_a_status_that_says_fail_counts_though_the_list_lacks_the_connection(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [hidden, *_] = await connections(rt)
    await control(fleet, f"connections/{hidden.makini_key}/change-credentials")
    unlist(fleet, hidden)
    await sweep(rt)
    assert await health_of(rt, hidden) == {"reauthorization_required"}
    await sweep(rt)
    [incident] = await open_ones(rt)
    assert incident.kind == "reauthorization_required"


async def test_what_still_answers_is_not_gone_however_many_lists_lack_it(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """A list without a total, cut to half, twice: Makini's status says that the others live."""
    await adopt(rt, fleet)
    half = (await connections(rt))[::2]
    back = unlist(fleet, *half)
    for _ in range(3):
        await sweep(rt)
    assert {each.setup for each in await connections(rt)} == {"live"}
    assert await open_ones(rt) == []
    for each in half:  # now it is gone: it answers no more
        fleet.world.tokens.kill(back[each.makini_key])
    await control(fleet, "settings", mint_shape="refused")
    for _ in range(3):
        await sweep(rt)
    setups = {each.id: each.setup for each in await connections(rt)}
    assert {setups[each.id] for each in half} == {"disconnected"}


async def test_nothing_is_gone_unasked_where_a_sweep_ended_before_its_probes(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [hidden, *_] = await connections(rt)
    unlist(fleet, hidden)
    await lists(rt, 2)  # and nothing was asked between
    assert (await connections(rt))[0].setup == "live"
    fleet.world.remove(fleet.world.find(hidden.makini_key) or hidden)
    await sweep(rt)
    await sweep(rt)
    assert (await connections(rt))[0].setup == "disconnected"


async def test_where_nothing_can_be_asked_two_lists_are_enough(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """No token, and none is minted."""
    await control(fleet, "settings", mint_shape="refused")
    await sweep(rt)
    [hidden, *_] = await connections(rt)
    forget(fleet, hidden)
    await sweep(rt)
    await minutes_pass(rt)
    await sweep(rt)
    assert (await connections(rt))[0].setup == "disconnected"


@pytest.mark.parametrize("has_token", [False, True])
async def test_a_list_that_lacks_one_that_answers_proves_nothing_of_the_others(
    rt: Runtime, fleet: sandbox.Served, has_token: bool
) -> None:
    """Universe 32083: a list without a total, cut to half, twice. Of one that it lacked there was
    no token, or a login was lost; another that it lacked answered for itself."""
    await adopt(rt, fleet)
    await control(fleet, "settings", mint_shape="refused")
    hidden, answering, *_ = await connections(rt)
    if has_token:
        fleet.world.tokens.kill(fleet.world.connections[hidden.makini_key])
        await sweep(rt)
    else:
        async with rt.store.write() as session:
            await session.execute(
                delete(Credential).where(col(Credential.connection_id) == hidden.id)
            )
            await session.execute(
                update(Connection)
                .where(col(Connection.id) == hidden.id)
                .values(last_answered_at=None, judged=to_builtins(Judged()))
            )
    back = unlist(fleet, hidden, answering)
    for _ in range(4):
        await sweep(rt)
        await minutes_pass(rt)
    assert {each.setup for each in await connections(rt)} == {"live"}
    fleet.world.tokens.kill(back[answering.makini_key])  # it answers no more
    for _ in range(3):
        await sweep(rt)
        await minutes_pass(rt)
    setups = {each.id: each.setup for each in await connections(rt)}
    assert {setups[hidden.id], setups[answering.id]} == {"disconnected"}


async def test_two_lists_of_the_same_minutes_are_one(rt: Runtime, fleet: sandbox.Served) -> None:
    """A cut list is read twice by a run that is taken twice; between them a token had ended."""
    await control(fleet, "settings", mint_shape="refused")
    await sweep(rt)
    [hidden, *_] = await connections(rt)
    await lists(rt, 1)
    back = unlist(fleet, hidden)
    for _ in range(3):
        await sweep(rt)
    assert (await connections(rt))[0].setup == "live"
    await minutes_pass(rt)
    await sweep(rt)
    assert (await connections(rt))[0].setup == "disconnected"
    fleet.world.connections |= back
    await sweep(rt)
    assert (await connections(rt))[0].setup == "live"


async def test_two_lists_of_the_same_minutes_are_one_where_its_login_was_lost_before(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Two sweeps are started at once, and both read the same cut list."""
    await adopt(rt, fleet)
    await control(fleet, "settings", mint_shape="refused")
    [lost, *_] = await connections(rt)
    fleet.world.tokens.kill(fleet.world.connections[lost.makini_key])
    await sweep(rt)
    back = unlist(fleet, lost)
    for _ in range(3):
        await sweep(rt)
    assert (await connections(rt))[0].setup == "live"
    fleet.world.connections |= back
    await sweep(rt)
    unlist(fleet, lost)
    await sweep(rt)
    await minutes_pass(rt)
    await sweep(rt)
    assert (await connections(rt))[0].setup == "disconnected"


async def test_a_token_that_was_minted_since_says_that_it_is_there(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """The token in use had ended early; nothing was asked with the new one."""
    await adopt(rt, fleet)
    [hidden, *_] = await connections(rt)
    unlist(fleet, hidden)
    await lists(rt, 1)
    await minutes_pass(rt)
    async with rt.store.write() as session:
        connection = await session.get_one(Connection, hidden.id)
        judged = replace(load(connection.judged), asked_at=utcnow(), replied_at=utcnow())
        connection.judged = to_builtins(judged)
        connection.last_answered_at = None
        (await session.get_one(Credential, hidden.id)).updated_at = utcnow()
    await lists(rt, 1)
    assert (await connections(rt))[0].setup == "live"


async def test_what_no_list_has_and_whose_new_tokens_are_refused_is_unknown_and_an_incident(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Makini gives tokens for it, and refuses them: that says neither gone nor lost login."""
    await adopt(rt, fleet)
    [hidden, *_] = await connections(rt)
    fleet.world.connections[hidden.makini_key].hidden = True
    fleet.world.faults.status = fleet.world.faults.data_list = "401"
    for _ in range(3):
        await sweep(rt)
        await minutes_pass(rt)
    [known, *_] = await connections(rt)
    assert (known.setup, known.health) == ("live", "unknown")
    async with rt.store.read() as session:
        pair = await session.get_one(Credential, hidden.id)
    assert pair.refused_at is None, "its token was renewed each time"
    assert await kinds_of(rt, hidden) == {"unknown"}


@pytest.mark.parametrize("answer", ["503", "html"])
async def test_what_gives_no_readable_answer_is_not_gone_however_many_lists_lack_it(
    rt: Runtime, fleet: sandbox.Served, answer: str
) -> None:
    """A list without a total, cut short, while its system is off line: neither is evidence."""
    await adopt(rt, fleet)
    [hidden, *_] = await connections(rt)
    back = unlist(fleet, hidden)
    if answer == "503":
        fleet.world.go_offline(back[hidden.makini_key])
    else:
        await control(fleet, "settings", status="html")
    for _ in range(4):
        await sweep(rt)
    assert (await connections(rt))[0].setup == "live"
    assert "disconnected" not in {incident.kind for incident in await incidents(rt)}
    await control(fleet, "settings", status="")
    fleet.world.tokens.kill(back[hidden.makini_key])  # and now a call of it is refused
    await control(fleet, "settings", mint_shape="refused")
    await sweep(rt)
    await sweep(rt)
    assert (await connections(rt))[0].setup == "disconnected"


@pytest.mark.parametrize("asked_days_ago", [None, 2])
async def test_what_may_not_be_asked_for_its_call_limit_is_not_gone_by_two_lists(
    rt: Runtime, fleet: sandbox.Served, asked_days_ago: int | None
) -> None:
    """Whether it never could be or not for days: a token is held that nobody refused."""
    await control(fleet, "settings", status="429-bare")
    await sweep(rt)
    [hidden, *_] = await connections(rt)
    if asked_days_ago is not None:
        async with rt.store.write() as session:
            connection = await session.get_one(Connection, hidden.id)
            asked_at = utcnow() - timedelta(days=asked_days_ago)
            connection.judged = to_builtins(replace(load(connection.judged), asked_at=asked_at))
    back = unlist(fleet, hidden)
    for _ in range(3):
        await sweep(rt)
        await minutes_pass(rt)
    assert (await connections(rt))[0].setup == "live"
    await control(fleet, "settings", status="")
    fleet.world.tokens.kill(back[hidden.makini_key])  # and now a call of it is refused
    await control(fleet, "settings", mint_shape="refused")
    await sweep(rt)
    await sweep(rt)
    assert (await connections(rt))[0].setup == "disconnected"
