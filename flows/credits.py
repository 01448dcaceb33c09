"""The credit ledger: checked against Makini's list each night; a form says how many were bought."""

from collections import Counter
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.credits.decide import CreditError, LeakKind
from linekeeper.credits.service import check, ledger, ledger_apps, set_bought
from linekeeper.text import counted
from tasks.implementation import publish
from tasks.run import is_paused, open_runtime, paused, refused, rename


@flow(name="credits", flow_run_name="credits", retries=0)
@form
async def credits(
    bought: Annotated[
        int | None,
        Field(title="Bought", description="Credits held at Makini in all; empty: no change", ge=0),
    ] = None,
    app: Annotated[
        str | None,
        Field(title="App", description="Whose account; empty: all, or `default` with a number"),
    ] = None,
    by: Annotated[
        str, Field(title="Your name", description="Who says so; needed with a number")
    ] = "",
) -> State[None]:
    """Check the ledger against the list of connections; it then follows the list.

    Makini publishes no balance, so the ledger is an estimate. Results: artifact `credits`.
    """
    if await is_paused():
        return paused()
    async with open_runtime() as rt:
        now = utcnow()
        configured, ledgers = (await rt.configuration()).apps, await ledger_apps(rt.store)
        app = (app or "").strip()
        if app and app not in {*configured, *ledgers, "default"}:
            known = ", ".join(sorted({*configured, *ledgers}))
            return refused("app", f"there is no Makini app {app!r}", f"Known: {known}.")
        if bought is not None:
            try:
                await set_bought(rt.store, bought, app=app or "default", by=by, now=now)
            except CreditError as refusal:
                return refused(refusal.field, refusal.reason, "Correct it and send the form again.")
        apps = [app] if app else [*ledgers]
        summaries: list[str] = []
        leaks_by_kind: Counter[LeakKind] = Counter()
        for name in apps:
            tariffs = configured[name].tariffs if name in configured else {}
            leaks = await check(rt.store, app=name, tariffs=tariffs, now=now)
            leaks_by_kind.update(leak.kind for leak in leaks)
            for leak in leaks[:50]:
                get_run_logger().warning("%s: %s", leak.kind, leak.message)
            own = await ledger(rt.store, today=now.date(), app=name)
            left = f"{own.balance.available} available" if own.known else "bought not said"
            said = f"{own.balance.consumed} taken, {own.balance.reserved} reserved, {left}"
            summaries.append(said if len(apps) == 1 else f"{name}: {said}")
        await publish([])
        summary = "; ".join(summaries)
        await rename(f"credits · {summary}")
        said = "".join(f"; {sentence}" for sentence in _sentences(leaks_by_kind))
        return Completed(message=f"{summary} (estimate){said}")


def _sentences(leaks: Counter[LeakKind]) -> list[str]:
    """What did not agree, and what became of it."""
    sentences: dict[LeakKind, str] = {
        "not in ledger": "not in the ledger before, and counted from now on",
        "not at Makini": "in the ledger, and not in Makini's list",
        "duplicate": "connected twice: see the page `credits`",
        "inactive": "not active, for which credits do nothing: see the page `credits`",
    }
    return [
        f"{counted(leaks[kind], 'connection')} {sentence}"
        for kind, sentence in sentences.items()
        if leaks[kind]
    ]
