"""`GET /connect/{token}`: the customer's page. Opening it changes nothing: scanners do it too."""

from dataclasses import dataclass
from datetime import datetime, tzinfo

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper.access.links import authorize_url, make_state, read_link
from linekeeper.access.pending import KeptLogin, kept_login
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow, zone_of
from linekeeper.config import AppConfig
from linekeeper.customer_page.words import Words, words_of
from linekeeper.health.token_missing import is_token_missing
from linekeeper.receiver.html import asked_locale, page, rendered
from linekeeper.receiver.keys import runtime_of
from linekeeper.receiver.remember import remember
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store.modes import Chosen, app_of, chosen_for
from linekeeper.store.tables import Connection, ConnectLink, Customer
from linekeeper.tokens.lost_renewal import lost_renewals


@dataclass(frozen=True, slots=True)
class _Invitation:
    link: ConnectLink
    words: Words
    """Of the customer's language."""
    zone: tzinfo
    """The customer's."""
    customer: str
    system: str
    """Empty where nobody named it."""
    broken: bool
    is_new: bool
    """It was made anew at Makini itself, and nobody has logged in to it by a link."""
    is_renewal_lost: bool
    """Makini's answer to the renewal of its tokens was lost: no password was changed, perhaps."""
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

    def say(self, name: str, **times: datetime) -> str:
        """The text `name` of the page; `times` are written as the customer writes them."""
        written = {
            key: self.words.moment_and_zone(at.astimezone(self.zone)) for key, at in times.items()
        }
        return self.words.of_system("connect", name, self.system, customer=self.customer, **written)


async def show(request: Request) -> Response:
    """What is asked of the customer and why, with one plain link to Makini Link."""
    rt = runtime_of(request)
    signer = await load_signer(rt.store)
    identifier = read_link(signer, request.path_params["token"])
    invitation = await _read(rt, identifier) if identifier else None
    if invitation is None:
        words = words_of(asked_locale(request))
        texts = [words.say("connect", name) for name in ("incomplete_title", "incomplete", "ask")]
        return page(*texts, status=404, language=words.language)
    link, now, say = invitation.link, utcnow(), invitation.say
    language = invitation.words.language
    if link.used_at is not None:
        return page(say("used_title"), *_since_used(invitation), status=410, language=language)
    if link.expires_at <= now:
        return page(say("expired_title"), *_too_old(invitation), status=410, language=language)
    try:
        app = await rt.app(link.app)
    except UnknownApp:
        return page(say("unavailable_title"), say("ask"), status=503, language=language)
    if not invitation.is_managed(app):
        texts = [say(name) for name in ("not_in_use_title", "nothing_to_do", "ask")]
        return page(*texts, status=410, language=language)
    state = make_state(signer, link.id, now=now)
    public_url = rt.settings.resolved_public_url
    shown = rendered(
        "connect.html",
        language=language,
        title=_title(invitation),
        why=_why(invitation),
        what_happens=say("what_happens"),
        steps=[say("step_1"), say("step_2"), say("step_3")],
        go=say("go"),
        ends=say("ends", until=link.expires_at),
        url=authorize_url(app, public_url, state),
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
    say = invitation.say
    if invitation.is_ended:
        return (say("ended"),)
    if _is_kept(invitation):
        return (_why(invitation),)
    if invitation.broken:
        return (_since(invitation, "lost_again"), say("ask"))
    return (say("works"),)


def _too_old(invitation: _Invitation) -> tuple[str, ...]:
    say = invitation.say
    if _is_kept(invitation):
        return (_why(invitation), say("ask"))
    if invitation.link.connection_id and not invitation.broken and not invitation.is_ended:
        return (say("works_anyway"),)
    return (say("expired", until=invitation.link.expires_at), say("ask"))


def _title(invitation: _Invitation) -> str:
    if _is_kept(invitation):
        return invitation.say("kept_title")
    if not invitation.link.connection_id:
        return invitation.say("new_title")
    return invitation.say("lost_title" if invitation.broken else "connected_title")


def _is_kept(invitation: _Invitation) -> bool:
    is_wanted = invitation.broken or not invitation.link.connection_id
    return is_wanted and invitation.kept is not None


def _why(invitation: _Invitation) -> str:
    say = invitation.say
    if _is_kept(invitation) and (kept := invitation.kept) is not None:
        return say("kept_away" if kept.is_system_away else "kept", at=kept.at)
    if not invitation.link.connection_id:
        return say("new")
    if not invitation.broken:
        return say("connected")
    if invitation.is_new:
        return say("made_anew")
    return say("renewal_lost") if invitation.is_renewal_lost else _since(invitation, "lost")


def _since(invitation: _Invitation, name: str) -> str:
    """The text `name`, with the time since when it is so where that is known."""
    if invitation.since is None:
        return invitation.say(name)
    return invitation.say(f"{name}_since", since=invitation.since)


async def _read(rt: Runtime, identifier: str) -> _Invitation | None:
    async with rt.store.read() as session:
        link = await session.get(ConnectLink, identifier)
        if link is None:
            return None
        kept = await kept_login(session, link)
        whose = link.used_for or link.connection_id
        connection = await session.get(Connection, whose) if whose else None
        customer = await session.get(Customer, link.customer_id) if link.customer_id else None
        chosen = await chosen_for(
            session, link.app, connection_id=link.connection_id, customer_id=link.customer_id
        )
        is_renewal_lost = whose is not None and bool(await lost_renewals(session, [whose]))
    words = words_of(customer.locale if customer is not None else "")
    named = connection.name if connection is not None else ""
    return _Invitation(
        link=link,
        words=words,
        zone=zone_of(customer.time_zone if customer is not None else "UTC"),
        customer=customer.name if customer else words.say("connect", "your_company"),
        system=link.system or named,
        broken=connection is not None and connection.health == "reauthorization_required",
        is_new=connection is not None and is_token_missing(connection.judged),
        is_renewal_lost=is_renewal_lost,
        since=connection.health_since if connection is not None else None,
        chosen=chosen,
        is_ended=connection is not None and connection.setup == "disconnected",
        kept=kept,
    )


ROUTES = [Route("/connect/{token}", show, methods=["GET"])]
