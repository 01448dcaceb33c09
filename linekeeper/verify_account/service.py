"""Asking what is not recorded yet, and answering every question from the recording."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from linekeeper.markdown import table, text
from linekeeper.refusal import Refusal
from linekeeper.runtime import Runtime
from linekeeper.store.leases import TOKENS, holding
from linekeeper.text import counted
from linekeeper.verify_account import about_data, about_list
from linekeeper.verify_account.ask import Asker, NotAllowed, OutOfCalls, Unanswered
from linekeeper.verify_account.evidence import (
    login_exchange,
    sample_named,
    samples_of,
    webhook_exchanges,
)
from linekeeper.verify_account.question import AccountAnswer, Confirmation
from linekeeper.verify_account.recording import Exchange, Recording, Redactor
from linekeeper.verify_account.steps import (
    MINT_CALLS,
    CallStep,
    data_steps,
    list_steps,
    mint_step,
)

CALLS = 500
QUESTIONS = (*about_list.QUESTIONS, *about_data.QUESTIONS)
Say = Callable[[str], None]


NO_LIST = (
    "This client may not read it (`GET /api/system/connections`): ask Makini to allow it. All that "
    "needs no list was asked."
)
BY_KEY = "Without a list `linekeeper connection add --key KEY` takes a connection with its token."


class WriteNotConfirmed(Refusal):
    """Something would be written at Makini, and that was not confirmed; says how it is."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What may be done: reading the list always, the rest as it is asked for."""

    data: bool = False
    """Read statuses and records with the tokens that Linekeeper holds."""
    write_on: str = ""
    """Makini's key of the one connection on which a token may be minted."""
    confirm: str = ""
    """The same key again."""
    calls: int = CALLS
    again: bool = False
    """Forget the recording and begin anew."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The answers, and whether everything was asked that was wished for."""

    app: str
    answers: Sequence[AccountAnswer]
    complete: bool
    recording: str
    calls: int
    unanswered: Sequence[str] = ()
    """What was asked and is still open, with what Makini answered."""

    @property
    def settings(self) -> dict[str, str]:
        """The settings to use, as `LINEKEEPER_…` calls them, without the prefix."""
        return {name: text for answer in self.answers for name, text in answer.settings.items()}


def answer_all(exchanges: Sequence[Exchange]) -> list[AccountAnswer]:
    """Every question, answered from a recording alone. Pure."""
    answers = []
    for question in QUESTIONS:
        finding = question.judge(exchanges)
        answers.append(
            AccountAnswer(
                question.name,
                question.assumption,
                finding.verdict,
                finding.evidence,
                finding.settings,
            )
        )
    return answers


async def verify_account(
    rt: Runtime, app_name: str, wish: Wish, *, now: datetime, say: Say
) -> Verification:
    """Ask Makini what is not recorded yet and answer every question.

    Each step is recorded as soon as it is done: a run that is interrupted in any way goes on where
    it stopped. Raises `WriteNotConfirmed`, `UnknownApp`, `MakiniError`.
    """
    app = await rt.app(app_name)
    if wish.write_on and wish.write_on != wish.confirm:
        raise WriteNotConfirmed(
            "confirm",
            "this would mint a token for a live connection, and its other tokens may end: give "
            "Makini's key of the connection a second time to confirm it",
        )
    recording = Recording(rt.settings.home / "verify-account", app.name)
    if wish.again:
        recording.forget()
    asker = Asker(app, rt.budget, Redactor(recording.salt), calls=wish.calls)
    complete = True
    unanswered: list[str] = []
    async with asker as ask:
        steps = list_steps(app)
        if wish.data:
            samples = await samples_of(rt, app.name, now=now)
            if not samples:
                say(f"No connection has a token that lives, so no data is read. {BY_KEY}")
            steps += data_steps(app, samples)
        try:
            await _take(steps, recording, ask, say, unanswered)
            if wish.write_on:
                await _mint(rt, wish.write_on, recording, ask, say, now=now)
        except Unanswered as answer:
            unanswered.append(f"minting a token: {answer}")
        except OutOfCalls:
            complete = False
            say(f"{wish.calls} calls were made, as many as allowed; run it again to go on.")
        webhooks = await webhook_exchanges(rt, app.name, ask, recording.exchanges, now=now)
        recording.add([*webhooks, *await login_exchange(rt, app.name, now=now)])
        made = wish.calls - ask.left
    answers = answer_all(recording.exchanges)
    complete = complete and not unanswered
    path = str(recording.path)
    return Verification(app.name, answers, complete, path, made, unanswered)


async def _take(
    steps: Sequence[CallStep], recording: Recording, ask: Asker, say: Say, unanswered: list[str]
) -> None:
    """Take the steps that are not recorded; those that stay open get a line in `unanswered`.

    A list that is not allowed is asked for once, and what needs no list goes on.
    """
    refused: NotAllowed | None = None
    for number, step in enumerate(steps, start=1):
        if step.name in recording.steps or (refused and step.name.startswith("list/")):
            continue
        say(f"{number} of {len(steps)}: {step.says}")
        try:
            recording.add(await step.run(ask))
        except NotAllowed as answer:
            refused = answer
        except Unanswered as answer:
            unanswered.append(f"{step.says}: {answer}")
    if refused:
        unanswered.append(f"the list of connections: {refused}. {NO_LIST} {BY_KEY}")


async def _mint(
    rt: Runtime, key: str, recording: Recording, ask: Asker, say: Say, *, now: datetime
) -> None:
    chosen = await sample_named(rt, ask.app, key, now=now)
    if chosen is None:
        raise WriteNotConfirmed(
            "write_on",
            f"no connection of app {ask.app.name} has the key {key!r} and a token that lives",
        )
    connection_id, sample, ref = chosen
    if "mint" in recording.steps:
        return
    step = mint_step(sample, ref)
    say(step.says)
    async with (
        ask.at_once(MINT_CALLS),
        holding(rt.store, TOKENS, rt.owner, subject=connection_id, seconds=60.0) as held,
    ):
        if held is None:
            raise WriteNotConfirmed(
                "write_on", "its token is being renewed at this moment: run it again"
            )
        recording.add(await step.run(ask))


SIGNS = {Confirmation.seen_so: "✅", Confirmation.seen_otherwise: "⚠️", Confirmation.not_seen: "·"}


def as_data(verification: Verification) -> dict[str, Any]:
    """What `linekeeper verify-account --json` prints."""
    return {
        "app": verification.app,
        "complete": verification.complete,
        "calls": verification.calls,
        "unanswered": list(verification.unanswered),
        "recording": verification.recording,
        "settings": {f"LINEKEEPER_{name}": value for name, value in verification.settings.items()},
        "answers": [asdict(answer) for answer in verification.answers],
    }


def counts(verification: Verification) -> str:
    """`12 seen so, 3 seen otherwise, 9 not seen`."""
    return ", ".join(
        f"{sum(answer.verdict is verdict for answer in verification.answers)} {verdict.value}"
        for verdict in Confirmation
    )


def as_markdown(verification: Verification) -> str:
    """The artifact `verify-account`."""
    order = [Confirmation.seen_otherwise, Confirmation.seen_so, Confirmation.not_seen]
    rows = [
        (SIGNS[a.verdict], text(a.assumption, 100), a.verdict.value, text(a.evidence, 300))
        for a in sorted(verification.answers, key=lambda answer: order.index(answer.verdict))
    ]
    answers = table(["", "Assumption", "On this account", "Evidence"], rows)
    settings = "\n".join(
        f"    LINEKEEPER_{name}={value}" for name, value in verification.settings.items()
    )
    rest = (
        "" if verification.complete else "\n\nNot everything was answered: run it again to go on."
    )
    rest += "".join(f"\n- {text(line, 200)}" for line in verification.unanswered)
    return (
        f"# What holds on the account of app {text(verification.app)}\n\n{counts(verification)}; "
        f"{counted(verification.calls, 'call')}.{rest}\n\n{answers}\n\n"
        f"## Settings to use\n\n{settings or 'None was found.'}\n\n"
        f"The redacted recording is `{verification.recording}`.\n"
    )
