"""What each kind of incident means, how much it matters and what happens next by itself."""

from dataclasses import dataclass

from linekeeper.config import Severity
from linekeeper.text import health_name

ALL_ENTITIES = "*"
"""What the detail of an incident has in place of an entity, for all that the connection offers."""


@dataclass(frozen=True, slots=True)
class KindWords:
    """`headline` in a few words; `meaning`: what is wrong; `ahead`: what happens next."""

    headline: str
    meaning: str
    ahead: str


_KINDS = {
    "reauthorization_required": KindWords(
        health_name("reauthorization_required"),
        "The customer's system rejects the stored credentials. Every call on this connection "
        "fails.",
        "The customer logs in through the connect link. Linekeeper then verifies the login, "
        "backfills what was missed, and resolves this incident.",
    ),
    "unreachable": KindWords(
        health_name("unreachable"),
        "The customer's system, or Makini's way to it, does not answer. The login is not in doubt.",
        "Linekeeper probes it in every sweep, and resolves this incident when it answers.",
    ),
    "inactive": KindWords(
        health_name("inactive"),
        "Makini has switched the connection off, because there are not enough credits.",
        "Add credits in Makini and activate the connection there; the next sweep resolves this.",
    ),
    "degraded": KindWords(
        health_name("degraded"),
        "It answers, but it is slow, its sync is failing or old, or it is flapping.",
        "Linekeeper probes it in every sweep, and resolves this incident once the cause is gone.",
    ),
    "unknown": KindWords(
        health_name("unknown"),
        "Whether it works is unknown: Makini reports a status that Linekeeper does not know, or "
        "the evidence contradicts itself. It counts as unhealthy.",
        "Linekeeper checks it in every sweep, and resolves this incident once the evidence is "
        "good and agrees.",
    ),
    "list_failed": KindWords(
        "can't be read",
        "Makini's list of connections can't be read: what is new, gone or inactive there is not "
        "seen. Connections whose token Linekeeper has are checked as before.",
        "Linekeeper asks again in every sweep, and resolves this incident when the list can be "
        "read. If Makini refuses the login, correct the client id and secret in the MakiniApp "
        "block.",
    ),
    "list_truncated": KindWords(
        "looks truncated",
        "The connection list looks truncated. Nothing was changed: tokens are issued as before.",
        "Linekeeper reads it again in every sweep, and resolves this incident when the list is "
        "complete. If the connections are gone for good, run adopt with Accept what is missing.",
    ),
    "budget_too_small": KindWords(
        "",
        "The calls to Makini that this app may make are fewer than its connections need. Nothing "
        "is lost; trouble and changes are found later than the settings say.",
        "Raise `per_minute` of the MakiniApp block if Makini allows more, or `probe_minutes` of "
        "the HealthPolicy block; read fewer entities, or less often (`workflow-configuration`). "
        "Linekeeper resolves this incident once a tenth of the calls is to spare.",
    ),
    "certificate_ending": KindWords(
        "",
        "The certificate of the customer's system ends. After that Makini can't reach it.",
        "Ask the customer's IT to renew it, then run preflight, which resolves this incident. It "
        "is announced 30, 14 and 3 days ahead.",
    ),
    "preflight_missing": KindWords(
        "address not checked",
        "The system is reached at another address than the one that was verified. Nobody watches "
        "it there.",
        "Run preflight for it, or import the customer's report; either resolves this incident, and "
        "the daily check goes on there.",
    ),
    "preflight_outdated": KindWords(
        "report outdated",
        "The last verified check that the system can be reached is more than a month old.",
        "Run preflight from there, or import the customer's new report; either resolves this "
        "incident.",
    ),
    "login_ending": KindWords(
        "",
        "The stored login ends soon, and Makini refuses to renew it without the customer.",
        "Send the customer a connect link (run connect). The login resolves this incident; "
        "without one it becomes Reauthorization required at the end.",
    ),
    "disconnected": KindWords(
        "disappeared at Makini",
        "Two complete connection lists do not contain it, and nobody disconnected it here. Every "
        "call on this connection fails, and the product gets no token for it.",
        "Linekeeper resolves this incident when Makini lists the connection again. If it is gone "
        "for good, run disconnect, or adopt with Accept what is missing; a new login makes a new "
        "connection.",
    ),
    "entity_forbidden": KindWords(
        "",
        "Makini or the customer's system refuses to let this entity be read. The login works: "
        "nobody needs to log in.",
        "Give the connection permission for the entity in Makini's dashboard or in the "
        "customer's system, or take the entity out of the block's list. Linekeeper tries again "
        "automatically.",
    ),
    "entity_failing": KindWords(
        "",
        "This entity can't be read, though its connection answers. The login is not in doubt.",
        "Linekeeper tries again automatically, at growing intervals of up to 6 hours, and "
        "resolves this incident once the entity can be read.",
    ),
    "reads_limited": KindWords(
        "",
        "Makini answers reads with 429: the call limit of the connection, or of the account, is "
        "used up. The login is not in doubt. What changes is found late, or by webhooks only.",
        "Ask Makini for a higher limit, or have whoever shares it call less: lower `per_minute` in "
        "the MakiniApp block, or read less often by `workflow-configuration`. Linekeeper tries "
        "again at growing intervals of up to 6 hours, and resolves this incident once all is read.",
    ),
    "entity_unsynced": KindWords(
        "",
        "Makini says that its own sync of this entity failed. The connection answers, and the "
        "login is not in doubt; what is read of the entity may be old.",
        "Linekeeper resolves this incident once Makini says that the entity is synced again. If "
        "it goes on, start its sync in Makini's dashboard, or ask Makini's support with the "
        "words above.",
    ),
    "entity_inconsistent": KindWords(
        "",
        "The source lists more or fewer records than its own total says, or the index holds fewer.",
        "Linekeeper lists them again every day, in both orders, and resolves this incident once "
        "the two agree. Ask Makini's support what limits the listing.",
    ),
    "records_unmatched": KindWords(
        "",
        "A new login made a new connection, and some of the earlier records can't be "
        "distinguished under their new keys. None of them was deleted or announced.",
        "Run deletions with show, which lists what waits. Say which records are the same, and "
        "decide about those of which too little is known. Linekeeper resolves this incident when "
        "none waits any more.",
    ),
    "webhooks_unconfigured": KindWords(
        "",
        "Records changed, and not one webhook ever came. Changes are found by reading only.",
        "In Makini's dashboard, send the webhooks to the address that the thread names. "
        "Linekeeper resolves this incident when one comes.",
    ),
    "deletions_held": KindWords(
        "",
        "Two complete listings lack so many records that none was deleted here.",
        "Accept or refuse in the form `deletions`. Linekeeper resolves this incident then, or "
        "when the records are listed again.",
    ),
    "preflight_failed": KindWords(
        "",
        "A network check that was in order no longer is.",
        "Have the customer's IT put it right; the thread says what was found. Linekeeper resolves "
        "this incident when a check finds it in order.",
    ),
    "canary_lost": KindWords(
        "",
        "A signed event that Linekeeper sent itself through the public address did not come "
        "through. Makini's webhooks probably don't either; reconcile finds what they miss.",
        "Linekeeper sends one again every few minutes, and resolves this incident when one comes "
        "through.",
    ),
    "part_silent": KindWords(
        "",
        "A part of Linekeeper was killed, hangs, or does not reach the database.",
        "This incident resolves automatically when the part reports again or another takes its "
        "place. `linekeeper doctor` shows every part.",
    ),
    "pool_without_worker": KindWords(
        "",
        "No worker starts the runs of the work pool.",
        "Start a worker: `prefect worker start --pool linekeeper`. This incident resolves "
        "automatically when one polls again.",
    ),
    "prefect_silent": KindWords(
        "",
        "The Prefect API does not answer the consumer.",
        "Restart the server, or correct PREFECT_API_URL. This incident resolves automatically "
        "when it answers.",
    ),
    **{
        kind: KindWords(
            "",
            "Prefect reports that a run of Linekeeper did not do its work.",
            "`linekeeper doctor` says whether workers and pool are well. This incident resolves "
            "automatically when another run succeeds.",
        )
        for kind in ("run_failed", "run_crashed")
    },
    "run_late": KindWords(
        "",
        "Runs of Linekeeper wait past their time, because something holds them up.",
        "`linekeeper doctor` says what to do. This incident resolves automatically when the runs "
        "start.",
    ),
    "pool_not_ready": KindWords(
        "",
        "No worker starts the runs of the work pool.",
        "Start a worker, or resume the pool. This incident resolves automatically when the pool "
        "is ready.",
    ),
    "work_overdue": KindWords(
        "",
        "Work that is due regularly was not completed.",
        "`linekeeper doctor` says why runs are late. This incident resolves automatically when "
        "it is completed.",
    ),
    "webhooks_unrouted": KindWords(
        "",
        "",
        "Run `adopt` where the connection is missing here, correct the URL at Makini where it "
        "names another, then run `replay-webhooks` with the status `unrouted`. Linekeeper looks "
        "for a connection for a day.",
    ),
    "webhooks_forged": KindWords(
        "",
        "",
        "The artifact `webhooks` shows what was turned away, and why. This incident is resolved "
        "when deliveries are accepted again, or the burst is over.",
    ),
    "forward_dead": KindWords(
        "",
        "",
        "Once the product takes messages again, run `replay-webhooks` with the status "
        "`forward_dead`: they are handed on under their ids, and this incident is resolved.",
    ),
    "forward_refused": KindWords(
        "",
        "",
        "Linekeeper tries again at growing intervals, for three days, and resolves this incident "
        "once the product accepts it.",
    ),
    "forward_behind": KindWords(
        "",
        "",
        "Linekeeper tries again every 15 s, for three days. Once the product is back, everything "
        "follows in order and this incident is resolved.",
    ),
}
_DEGRADED = {
    "sync_failing": "The connection answers, but Makini reports that its sync fails.",
    "sync_stale": "The connection answers, but its last successful sync is too long ago.",
    "slow": "The connection answers, but too slowly.",
    "flapping": "The connection is flapping: it fails and recovers again and again.",
}
"""What a degraded connection has, by its one cause."""
_OTHER = KindWords(
    "",
    "",
    "Linekeeper checks this in every sweep, and resolves this incident when the cause is gone.",
)
_RESOLVED = "Nothing to do."
_LOSSES = frozenset(
    {
        "unreachable",
        "reauthorization_required",
        "inactive",
        "disconnected",
        "list_failed",
        "part_silent",
        "canary_lost",
        "pool_without_worker",
        "work_overdue",
    }
)
_MINOR = frozenset({"degraded", "unknown", "webhooks_unconfigured", "budget_too_small"})
FLAPPING = frozenset({"unreachable", "degraded"})
"""What comes and goes by itself, and for which nobody has to do anything each time."""


def root_cause(scope: str, app: str, provider: str) -> str:
    """What has the one root cause of several connections' trouble: a provider, or an app."""
    return f"app {app}" if scope == "app" else provider or "unnamed provider"


def headline(kind: str) -> str:
    """What is wrong, in a few words; empty for a kind that has only its title."""
    return _KINDS.get(kind, _OTHER).headline


def meaning(kind: str, cause: str = "") -> str:
    """What is wrong; empty for a kind that has only its title.

    `cause` is the one why a connection is degraded (`Judged.degraded_by`), where it is known.
    """
    known = _DEGRADED.get(cause) if kind == "degraded" else None
    return known or _KINDS.get(kind, _OTHER).meaning


def ahead(kind: str, *, resolved: bool) -> str:
    """What happens next."""
    return _RESOLVED if resolved else _KINDS.get(kind, _OTHER).ahead


def severity(kind: str, scope: str, *, live: bool, critical: bool) -> Severity:
    """How much an incident matters: `live` if a member is, `critical` if its customer is."""
    if kind not in _LOSSES:
        return "low" if kind in _MINOR else "normal"
    if scope != "connection":
        return "critical"
    if not live:
        return "low"
    return "critical" if critical else "normal"
