"""One way to call Makini for a connection: with its token, renewed once where that fixes a 401.

Whoever wants something of a connection asks through a `Caller`, made with a token that was loaded
together with those of a batch. What must not happen in the connection's mode doesn't happen here,
whoever asks: nothing is renewed or minted while it is observed, or where its token is borrowed
(`renew` has the last word on that, under the lease of the connection).
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Self, TypeVar

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.makini import NO_TOKEN, NOT_ASKED, ErrorKind, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.modes import app_of
from linekeeper.store.tables import Connection
from linekeeper.tokens.renew import Renewed, renew
from linekeeper.tokens.stored import Token, load_tokens, note_doubted

T = TypeVar("T")
MOST_ENDED = 3
"""More in a row are no matter of waiting."""


class NoToken(MakiniError):
    """There is no token to call with, and none may be minted, or Makini mints none."""

    def __init__(self, app: str, connection: str) -> None:
        super().__init__(
            ErrorKind.forbidden,
            "there is no token for it: Linekeeper may not mint one, or Makini mints none",
            app=app,
            connection=connection,
            code=NO_TOKEN,
        )


class Caller:
    """Calls Makini for one connection, for as long as somebody has something to ask of it.

    A token is renewed once for a refusal, and again only after something was answered with the new
    one: minting may end the product's. One that another process had renewed counts for none. One
    that has ended by the time its call was made, as where that waited for the call budget, says
    nothing of the login: it is replaced, `MOST_ENDED` times.
    """

    def __init__(
        self, rt: Runtime, app: AppConfig, connection_id: str, ref: str, token: Token | None
    ) -> None:
        self._rt = rt
        self.app = app
        """Its app, in the mode that holds for the connection."""
        self.id = connection_id
        self.ref = ref
        """What Makini's routes call it (`AppConfig.ref_of`)."""
        self.token = token
        """The last one that it was called with, or is to be called with."""
        self.makini = rt.makini(app)
        self._is_prepared = self._is_renewed = False
        self._ended = 0
        """How many had ended by the time of their call, since something was answered."""
        self.is_unknown_there = False
        """Makini, asked for a new token, said that it doesn't know the connection."""
        self.is_unrenewed = False
        """Its token was refused, and Makini gave no answer when another was to be had."""

    @classmethod
    async def of(cls, rt: Runtime, app: AppConfig, connection: Connection) -> Self:
        """The caller for `connection` of `app`, with the token it has now."""
        async with rt.store.read() as session:
            tokens = await load_tokens(rt.store, session, [connection.id])
        ref = app.ref_of(connection.makini_key, connection.makini_id)
        return cls(rt, app_of(app, connection), connection.id, ref, tokens.get(connection.id))

    @property
    def may_renew(self) -> bool:
        """Whether its token may be renewed, or one be minted; else a 401 says little."""
        return self.app.manages and (self.token is None or self.token.is_ours)

    @property
    def is_given_back(self) -> bool:
        """Whether its token is somebody else's to renew, who has it from here."""
        return self.token is not None and self.token.is_given_back

    @property
    def may_read(self) -> bool:
        """Whether records may be read with the token it has now."""
        return self.token is not None and self.token.may_read(self.app, utcnow())

    async def call(self, ask: Callable[[Token], Awaitable[T]]) -> T:
        """What `ask` returns, which is called once more with a newer token where that may help.

        Raises `NoToken`, and whatever `ask` raises at last.
        """
        token = await self.prepared()
        if token is None:
            raise NoToken(self.app.name, self.ref)
        while True:
            try:
                answer = await ask(token)
            except MakiniError as error:
                newer = await self.after(error)
                if newer is None:
                    raise
                token = newer
            else:
                self.answered()
                return answer

    async def prepared(self) -> Token | None:
        """A token to call with, minted first where there is none or it is about to end.

        Raises `MakiniError` when Makini could not be asked.
        """
        now = utcnow()
        if self.token is None:
            if not self.app.manages:
                return None
        elif not self.may_use(self.token, now):
            return None
        elif not self.token.needs_minting(now):
            return self.token
        if not self._is_prepared or self._has_ended():
            self.token = (await self._newer()).token or self.token
            self._is_prepared = True
        return self.token

    async def after(self, error: MakiniError) -> Token | None:
        """Another token after `error`; None where a token is not what is missing.

        Raises `MakiniError` when Makini could not be asked, and `NoToken` where the token had been
        given back: its holder has renewed it, so that none is held here any more.
        """
        refused = error.kind is ErrorKind.unauthorized and error.connection is not None
        if not refused or not await self.is_of_token():
            return None
        if self.is_given_back:
            await self._doubt()
            raise NoToken(self.app.name, self.ref) from error
        try:
            return await self.renewed()
        except MakiniError as unanswered:
            self.is_unrenewed = unanswered.kind not in NOT_ASKED
            await self._doubt()
            raise

    async def renewed(self) -> Token | None:
        """Another token in place of the one that was refused; None if nothing of ours gives one.

        Raises `MakiniError` when Makini could not be asked.
        """
        if self._is_renewed and not self._has_ended():
            return None
        newer = await self._newer()
        # What got no answer says nothing of the login, and is tried again; nor does a token that
        # another process had stored, which may have been refused since.
        self._is_renewed = newer.is_made or newer.token is None
        self.token = newer.token or self.token
        return newer.token

    def answered(self) -> None:
        """Something was answered: a token that is refused later is renewed again."""
        self._is_prepared = self._is_renewed = self.is_unknown_there = self.is_unrenewed = False
        self._ended = 0

    def _has_ended(self) -> bool:
        """Whether the token it has is to be replaced once more, because it has ended."""
        if self.token is None or not self.token.is_over(utcnow()) or self._ended >= MOST_ENDED:
            return False
        self._ended += 1
        return True

    def may_use(self, token: Token, now: datetime) -> bool:
        """Whether it may be called with `token`; where nothing may renew it, its end counts."""
        return self.may_renew or not token.is_over(now)

    async def is_of_token(self) -> bool:
        """Whether a 401 that came just now is one of the token, which a newer one may fix."""
        return self.may_renew or self.is_given_back

    async def _doubt(self) -> None:
        """The product gets a token that was refused only once Makini has answered with it, and not
        any more where it had been given back."""
        if self.token is None:
            return
        async with self._rt.store.write() as session:
            await note_doubted(self._rt.store, session, self.id, self.token, now=utcnow())

    async def _newer(self) -> Renewed:
        newer = await renew(
            self._rt.store,
            self.makini,
            self.app,
            connection_id=self.id,
            makini_ref=self.ref,
            refused=self.token,
            owner=self._rt.owner,
        )
        self.is_unknown_there = newer.is_unknown_there
        return newer
