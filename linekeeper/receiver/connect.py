"""`GET /connect/{token}`: the customer's page. Opening it changes nothing: scanners do it too."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper.access.links import authorize_url, make_state, read_link
from linekeeper.access.pending import KeptLogin, kept_login
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.health.token_missing import is_token_missing
from linekeeper.receiver.html import page, rendered
from linekeeper.receiver.keys import runtime_of
from linekeeper.receiver.remember import remember
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store.modes import Chosen, app_of, chosen_for
from linekeeper.store.tables import Connection, ConnectLink, Customer

_ASK = "Ask whoever sent you this link for a new one; they have a button for that."


@dataclass(frozen=True, slots=True)
class _Invitation:
    link: ConnectLink
    customer: str
    system: str
    broken: bool
    is_new: bool
    """It was made anew at Makini itself, and nobody has logged in to it by a link."""
    since: datetime | None
    chosen: Chosen
    """What the rules say of the mode of its connection, or of the one that it asks for."""
    is_ended: bool
    """It is not connected any more."""
    kept: KeptLogin | None
    """Somebody logged in already, and it could not be verified yet."""

    def is_managed(self, app: AppConfig) -> bool:
        """Whether a login may be taken."""
        return app_of(app, self.chosen).manages


async def show(request: Request) -> Response:
    """What is asked of the customer and why, with one plain link to Makini Link."""
    rt = runtime_of(request)
    signer = await load_signer(rt.store)
    identifier = read_link(signer, request.path_params["token"])
    invitation = await _read(rt, identifier) if identifier else None
    if invitation is None:
        return page(
            "This link is not complete",
            "Perhaps it was cut in two by a mail program. Copy all of it into the address line.",
            _ASK,
            status=404,
        )
    link, now = invitation.link, utcnow()
    if link.used_at is not None:
        return page("You have logged in already", *_since_used(invitation), status=410)
    if link.expires_at <= now:
        return page("This link has expired", *_too_old(invitation), status=410)
    try:
        app = await rt.app(link.app)
    except UnknownApp:
        return page("This can't be done right now", _ASK, status=503)
    if not invitation.is_managed(app):
        return page(
            "This link is not in use any more", "There is nothing to do here.", _ASK, status=410
        )
    state = make_state(signer, link.id, now=now)
    public_url = rt.settings.resolved_public_url
    shown = rendered(
        "connect.html",
        title=_title(invitation),
        why=_why(invitation),
        system=invitation.system,
        customer=invitation.customer,
        url=authorize_url(app, public_url, state),
        until=link.expires_at,
    )
    if not app.state_required:
        remember(shown, link.id, state, public_url)
    return shown


async def since_used(rt: Runtime, link_id: str) -> tuple[str, ...]:
    """What became of the login for which the link was used up, in sentences."""
    invitation = await _read(rt, link_id)
    return _since_used(invitation) if invitation is not None else ()


def _since_used(invitation: _Invitation) -> tuple[str, ...]:
    """What became of a login that was verified once."""
    system = invitation.system
    if invitation.is_ended:
        return (f"{system} is not connected to us any more, so no login is needed.",)
    if _is_kept(invitation):
        return (_why(invitation),)
    if invitation.broken:
        since = f" since {invitation.since:%-d %B %Y, %H:%M} UTC" if invitation.since else ""
        return (f"{system} does not accept that login any more{since}.", _ASK)
    return (f"{system} is connected. There is nothing more to do here.",)


def _too_old(invitation: _Invitation) -> tuple[str, ...]:
    if _is_kept(invitation):
        return (_why(invitation), _ASK)
    if invitation.link.connection_id and not invitation.broken and not invitation.is_ended:
        return (f"{invitation.system} is connected: there is nothing you have to do.",)
    ended = invitation.link.expires_at
    return (f"It worked until {ended:%-d %B %Y, %H:%M} UTC.", _ASK)


def _title(invitation: _Invitation) -> str:
    if _is_kept(invitation):
        return f"The login to {invitation.system} is not verified yet"
    if not invitation.link.connection_id:
        return f"Please log in to {invitation.system}"
    if not invitation.broken:
        return f"{invitation.system} is connected"
    return f"Please log in to {invitation.system} again"


def _is_kept(invitation: _Invitation) -> bool:
    is_wanted = invitation.broken or not invitation.link.connection_id
    return is_wanted and invitation.kept is not None


def _why(invitation: _Invitation) -> str:
    if _is_kept(invitation) and (kept := invitation.kept) is not None:
        system = invitation.system
        away = f", and {system} did not answer Makini at that moment" if kept.is_system_away else ""
        return (
            f"Somebody logged in on {kept.at:%-d %B %Y, %H:%M} UTC{away}. That login is kept: it "
            f"is verified as soon as {system} answers, and if it works there is nothing more to "
            "do. Log in once more only if an old password was typed, or if it was changed since."
        )
    if not invitation.link.connection_id:
        return (
            f"We would like to connect {invitation.system} of {invitation.customer}. "
            "For that it needs a login."
        )
    if not invitation.broken:
        return (
            f"{invitation.system} of {invitation.customer} is connected: there is nothing you have "
            "to do. You can renew its login here, if you want to."
        )
    if invitation.is_new:
        return (
            f"{invitation.system} of {invitation.customer} was connected anew at Makini, and we "
            "have no access to the new connection. Until you log in here once, nothing can be read "
            "from it or sent to it."
        )
    since = f" since {invitation.since:%-d %B %Y, %H:%M} UTC" if invitation.since else ""
    return (
        f"{invitation.system} of {invitation.customer} has not accepted the stored login{since}. "
        "Most often its password was changed. Until you log in again, nothing can be read from it "
        "or sent to it."
    )


async def _read(rt: Runtime, identifier: str) -> _Invitation | None:
    async with rt.store.read() as session:
        link = await session.get(ConnectLink, identifier)
        if link is None:
            return None
        kept = await kept_login(session, link)
        whose = link.used_for or link.connection_id
        connection = await session.get(Connection, whose) if whose else None
        customer = await session.scalar(
            select(col(Customer.name)).where(col(Customer.id) == link.customer_id)
        )
        chosen = await chosen_for(
            session, link.app, connection_id=link.connection_id, customer_id=link.customer_id
        )
    return _Invitation(
        link=link,
        customer=customer or "your company",
        system=link.system or (connection.name if connection else "") or "your system",
        broken=connection is not None and connection.health == "reauthorization_required",
        is_new=connection is not None and is_token_missing(connection.judged),
        since=connection.health_since if connection is not None else None,
        chosen=chosen,
        is_ended=connection is not None and connection.setup == "disconnected",
        kept=kept,
    )


ROUTES = [Route("/connect/{token}", show, methods=["GET"])]
