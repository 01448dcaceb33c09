"""The registry of the kinds of incidents: one entry a kind, and what is said by it."""

from linekeeper.config import Severity
from linekeeper.health.evidence import TOKEN_REFUSED
from linekeeper.health.token_missing import TOKEN_MISSING
from linekeeper.incidents.kinds_of_connections import OF_CONNECTIONS
from linekeeper.incidents.kinds_of_the_house import OF_THE_HOUSE
from linekeeper.incidents.registry import LOSS, MINOR, NORMAL, Kind
from linekeeper.text import Pen, health_name
from linekeeper.tokens.lost_renewal import RENEWAL_LOST

ALL_ENTITIES = "*"
"""What the detail of an incident has in place of an entity, for all that the connection offers."""
KINDS = {**OF_CONNECTIONS, **OF_THE_HOUSE}
_DEGRADED = {
    "sync_failing": "The connection answers, but Makini reports that its sync fails.",
    "sync_stale": "The connection answers, but its last successful sync is too long ago.",
    "slow": "The connection answers, but too slowly.",
    "flapping": "The connection is flapping: it fails and recovers again and again.",
}
"""What a degraded connection has, by its one cause."""
_DEGRADED_ALIKE = {
    "sync_failing": "These connections answer, but Makini reports that their syncs fail.",
    "sync_stale": "These connections answer, but their last successful syncs are too long ago.",
    "slow": "These connections answer, but too slowly.",
    "flapping": "These connections are flapping: they fail and recover again and again.",
}
"""What several degraded connections have that have one cause."""
_MADE_ANEW = (
    "There is a new connection at Makini in place of the one before. Linekeeper has no token of "
    "it, and none is minted: your product gets no token, though Makini calls it active."
)
_RENEWAL_LOST = (
    "Linekeeper was renewing the tokens of this connection, and Makini's answer with the new ones "
    "was lost. Makini has probably replaced the old ones all the same, and refuses them: every "
    "call on this connection fails. A new login puts it right; the customer's password does not "
    "need to be changed."
)
_RENEWALS_LOST = (
    "Linekeeper was renewing the tokens of these connections, and Makini's answers with the new "
    "ones were lost. Makini has probably replaced the old ones all the same, and refuses them: "
    "every call on these connections fails. New logins put it right; no password needs to be "
    "changed."
)
_NO_OTHER_GIVEN = (
    "Makini refuses the token of this connection, and gives no other: asked for one, it answers "
    "with an error. Every call on this connection fails, and whether its login works is unknown."
)
_NO_OTHERS_GIVEN = (
    "Makini refuses the tokens of these connections, and gives no others: asked for them, it "
    "answers with an error. Every call on these connections fails, and whether their logins work "
    "is unknown."
)
_ASK_MAKINI = (
    "Ask Makini's support why it gives no token. If that takes too long, send the customer a "
    "connect link (run connect): a login brings a new token. Linekeeper asks Makini again in every "
    "sweep, and resolves this incident when a token works; where Makini says that it gives none "
    "without a login, the customer is asked automatically."
)
_NOT_IN_DOUBT = "The logins are not in doubt."
_OF_MANY_ANYWHERE = {
    "degraded": (
        "These connections answer, but they are slow, their syncs fail or are old, or they are "
        "flapping."
    ),
    "unknown": (
        "Whether these connections work is unknown: Makini gives no status that Linekeeper "
        "understands, or the evidence contradicts itself. They count as unhealthy."
    ),
    "disconnected": (
        "Two complete connection lists do not contain them, and nobody disconnected them here. "
        "Every call on these connections fails, and the product gets no token for them."
    ),
    "inactive": (
        "Makini has switched these connections off, because there are not enough credits."
    ),
}
"""What is wrong with several connections, whatever they have in common."""
_OF_MANY = {
    ("unreachable", "provider"): (
        f"These systems, or Makini's way to them, do not answer. {_NOT_IN_DOUBT}"
    ),
    ("unreachable", "app"): (
        "Systems of several providers do not answer: Makini itself, or the way to it, is likelier "
        f"to be the cause than the customers' systems. {_NOT_IN_DOUBT}"
    ),
    ("reauthorization_required", "provider"): (
        "These systems reject the stored credentials. Every call on these connections fails."
    ),
    ("reauthorization_required", "app"): (
        "Systems of several providers reject the stored credentials. Every call on these "
        "connections fails."
    ),
}
"""What is wrong with connections of one provider, or of several of an app, that fail alike."""
_AHEAD_OF_MANY = {
    "unreachable": "Linekeeper probes them in every sweep, and resolves this incident when they "
    "answer.",
    "inactive": "Add credits in Makini and activate the connections there; the next sweep resolves "
    "this.",
    "degraded": "Linekeeper probes them in every sweep, and resolves this incident once the cause "
    "is gone.",
    "unknown": "Linekeeper checks them in every sweep, and resolves this incident once the "
    "evidence is good and agrees.",
    "disconnected": "Linekeeper resolves this incident when Makini lists the connections again. "
    "If they are gone for good, run disconnect, or adopt with Accept what is missing; new logins "
    "make new connections.",
}
_OTHER = Kind(
    (),
    NORMAL,
    "incidents.md",
    "",
    "",
    "Linekeeper checks this in every sweep, and resolves this incident when the cause is gone.",
)
"""A kind of another version, whose incident this one still shows."""
_RESOLVED = "Nothing to do."
_UNWATCHED = (
    "The app was taken out of the settings, and nobody looks while it is. What goes on once it is "
    "back in them is an open incident."
)
FLAPPING = frozenset({"unreachable", "degraded"})
"""What comes and goes by itself, and for which nobody has to do anything each time."""


def root_cause(scope: str, app: str, provider: str, customer: str | None = None) -> str:
    """What has the one root cause of several connections' trouble: a customer, a provider, or an
    app."""
    if customer is not None:
        return customer
    return f"app {app}" if scope == "app" else provider or "unnamed provider"


def cause_in_words(scope: str, app: str, provider: str, *, is_over: bool, pen: Pen) -> str:
    """What connections of a provider, or of an app, have in common."""
    verb = "failed" if is_over else "fail"
    if scope == "provider":
        return f"connections of {pen.text(provider)} {verb} alike"
    of_app = f"all of the Makini app {pen.code(app)}"
    return f"connections of several providers {verb} alike, {of_app}"


def headline(kind: str) -> str:
    """What is wrong, in a few words; empty for a kind that has only its title."""
    return KINDS.get(kind, _OTHER).headline


def left_for(kind: str | None) -> str:
    """What is said of a connection that left an incident which goes on for others.

    `kind` is that of the incident it moved to; *disconnected* where it is in use no more.
    """
    if kind is None:
        return "recovered"
    return kind if kind == "disconnected" else f"moved to another incident: {health_name(kind)}"


def meaning(kind: str, cause: str = "", scope: str = "connection") -> str:
    """What is wrong; empty for a kind that has only its title.

    `scope` is `connection`, or that of an incident of several: of a provider, or of an app, where
    it is not the systems of several providers that are taken for the cause.
    `cause` is the one why a connection, or all of several, are degraded (`Judged.degraded_by`),
    where it is known; of a lost login `TOKEN_MISSING` or `RENEWAL_LOST`, and of an unknown
    health `TOKEN_REFUSED`, where that is why.
    """
    if kind == "reauthorization_required" and cause == TOKEN_MISSING:
        return _MADE_ANEW
    is_of_one = scope == "connection"
    if kind == "unknown" and cause == TOKEN_REFUSED:
        return _NO_OTHER_GIVEN if is_of_one else _NO_OTHERS_GIVEN
    if kind == "reauthorization_required" and cause == RENEWAL_LOST:
        return _RENEWAL_LOST if is_of_one else _RENEWALS_LOST
    known = None
    if kind == "degraded":
        known = (_DEGRADED if is_of_one else _DEGRADED_ALIKE).get(cause)
    if known is None and not is_of_one:
        known = _OF_MANY.get((kind, scope)) or _OF_MANY_ANYWHERE.get(kind)
    return known or KINDS.get(kind, _OTHER).meaning


def after(*, unwatched: bool) -> str:
    """What is said of a resolved one; `unwatched`: its app was taken out of the settings."""
    return _UNWATCHED if unwatched else _RESOLVED


def ahead(kind: str, cause: str = "", scope: str = "connection") -> str:
    """What happens next, to one connection or to several; `cause` and `scope` as in `meaning`."""
    if kind == "unknown" and cause == TOKEN_REFUSED:
        return _ASK_MAKINI
    of_many = None if scope == "connection" else _AHEAD_OF_MANY.get(kind)
    return of_many or KINDS.get(kind, _OTHER).ahead


def is_about_webhooks(kind: str) -> bool:
    """Whether the page that shows more of it is that of the webhook stream."""
    return "stream" in KINDS.get(kind, _OTHER).topics


def severity(kind: str, scope: str, *, live: bool, critical: bool) -> Severity:
    """How much an incident matters: `live` if a member is, `critical` if its customer is."""
    weight = KINDS.get(kind, _OTHER).weight
    if weight != LOSS:
        return "low" if weight == MINOR else "normal"
    if scope != "connection":
        return "critical"
    if not live:
        return "low"
    return "critical" if critical else "normal"
