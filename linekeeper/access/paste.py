"""A code or a token pair that an operator has in hand, for a connection we know.

It goes the way of a customer's login: it is verified, matched and stored, or refused.
"""

from dataclasses import dataclass
from datetime import datetime
from json import JSONDecodeError, loads

from linekeeper.access.ending import Ending
from linekeeper.access.links import make_link
from linekeeper.access.login import Attempt
from linekeeper.access.time_limit import ended_soon
from linekeeper.customers.find import find_connection
from linekeeper.health.evidence import Health
from linekeeper.incidents.of_connection import incident_of
from linekeeper.makini import ReadOnlyApp, TokenPair
from linekeeper.makini.models import WrongShape, is_token, parse_tokens
from linekeeper.runtime import Runtime
from linekeeper.store.modes import app_of
from linekeeper.store.tables import Connection

LOST = Health.reauthorization_required.value


class Unusable(Exception):
    """What was given is neither a code nor a token pair."""


@dataclass(frozen=True, slots=True)
class Pasted:
    """How it ended, and for which connection (`Customer · System`)."""

    ending: Ending
    label: str

    @property
    def is_stored(self) -> bool:
        """Whether the login works and is kept."""
        return self.ending.how == "done"

    @property
    def _mails(self) -> str:
        if not self.ending.mail_before:
            return ""
        return f" ({self.ending.mail or 'no e-mail'} instead of {self.ending.mail_before})"

    @property
    def sentence(self) -> str:
        """What the operator reads."""
        label = self.label
        how = "kept" if self.ending.is_kept else self.ending.how
        why = f" ({self.ending.why.rstrip('.')})" if self.ending.why else ""
        return {
            "done": f"{label}: the login works and is stored",
            "other_system": (
                f"this login belongs to {self.ending.came}{self._mails}, not to {label}"
            ),
            "unproven": (
                f"{label}: the login is stored, but Makini still says that the system refuses it; "
                "the next probe decides"
            ),
            "kept": (
                f"{label}: Makini accepted the login, but it could not be verified yet{why}; it is "
                "kept, and Linekeeper tries again automatically"
            ),
            "system_away": (
                f"Makini accepted the login, but {label} does not answer Makini: try again once "
                "the system can be reached"
            ),
            "checking": (
                f"Makini has not answered yet, and Linekeeper goes on waiting: if it accepts the "
                f"login for {label} it is stored. Look at {label} in a few minutes; where it does "
                "not work then, and this was a code, get a new one"
            ),
            "away": f"Makini could not be asked{why}: try again; if it was a code, get a new one",
        }.get(how, f"Makini, or the system, refuses this login for {label}")


def understood(text: str, *, now: datetime) -> str | TokenPair:
    """A pair, in any shape Makini answers in, or else a code. Raises `Unusable`. Pure."""
    text = text.strip()
    if text.startswith("{"):
        try:
            return parse_tokens(loads(text), now=now, minted=False)
        except (JSONDecodeError, WrongShape, RecursionError):
            raise Unusable(
                'this JSON holds no tokens: it should be like {"access_token": "…", '
                '"refresh_token": "…", "expires_in": 2592000}'
            ) from None
    if not is_token(text):
        raise Unusable("this is neither a code of Makini Link nor a token pair as JSON")
    return text


async def paste(
    rt: Runtime,
    wanted: str,
    given: str | TokenPair,
    *,
    by: str,
    now: datetime,
    patiently: bool = True,
) -> Pasted:
    """Take `given`, a code of Makini Link or a pair, as the login of the connection `wanted`.

    Where it is not done `patiently` somebody waits for a page, and no longer than for any other of
    a login: it goes on meanwhile, and is `checking`. Raises `NotFound`, `ReadOnlyApp` in `observe`,
    `UnknownApp`.
    """
    async with rt.store.read() as session:
        named = await find_connection(session, wanted)
        connection = await session.get_one(Connection, named.id)
    if not app_of(await rt.app(named.app), connection).manages:
        raise ReadOnlyApp(named.app, "store a login", named.label)
    async with rt.store.write() as session:
        connection = await session.get_one(Connection, named.id)
        link = await make_link(
            session,
            app=named.app,
            connection_id=connection.id,
            customer_id=connection.customer_id,
            incident_id=await incident_of(
                session, connection.id, kind=Health.reauthorization_required
            ),
            system=connection.provider or connection.name,
            by=by,
            now=now,
        )
        link.expires_at = now  # nobody is to open it: it is the record of this attempt
        await session.flush()
    attempt = Attempt(rt, link, None, by)
    if patiently:
        return Pasted(await attempt.take(given), named.label)
    task = f"paste:{link.id}"
    ending = await ended_soon(rt, task, lambda: attempt.take(given), link=link, url=None, now=now)
    return Pasted(ending, named.label)
