"""What can be wrong with customers' connections, and with what is read from them."""

from linekeeper.incidents.registry import LOSS, MINOR, NORMAL, Kind
from linekeeper.text import health_name

OF_CONNECTIONS = {
    "reauthorization_required": Kind(
        ("health",),
        LOSS,
        "health.md#what-the-words-mean",
        health_name("reauthorization_required"),
        "The customer's system rejects the stored credentials. Every call on this connection "
        "fails.",
        "The customer logs in through the connect link. Linekeeper then verifies the login, "
        "backfills what was missed, and resolves this incident.",
        mails_customer=True,
    ),
    "unreachable": Kind(
        ("health",),
        LOSS,
        "health.md#what-the-words-mean",
        health_name("unreachable"),
        "The customer's system, or Makini's way to it, does not answer. The login is not in doubt.",
        "Linekeeper probes it in every sweep, and resolves this incident when it answers.",
    ),
    "inactive": Kind(
        ("health",),
        LOSS,
        "health.md#what-the-words-mean",
        health_name("inactive"),
        "Makini has switched the connection off, because there are not enough credits.",
        "Add credits in Makini and activate the connection there; the next sweep resolves this.",
    ),
    "degraded": Kind(
        ("health",),
        MINOR,
        "health.md#what-the-words-mean",
        health_name("degraded"),
        "It answers, but it is slow, its sync is failing or old, or it is flapping.",
        "Linekeeper probes it in every sweep, and resolves this incident once the cause is gone.",
    ),
    "unknown": Kind(
        ("health",),
        NORMAL,
        "health.md#what-the-words-mean",
        health_name("unknown"),
        "Whether it works is unknown: Makini gives no status that Linekeeper understands, "
        "refuses the token and gives no other, or the evidence contradicts itself. It counts as "
        "unhealthy.",
        "Linekeeper checks it in every sweep, and resolves this incident once the evidence is "
        "good and agrees. Where the token is refused in three probes in a row and no other is "
        "given, the incident says so, and the customer is not asked without you: ask Makini's "
        "support, or send the customer a connect link (run connect).",
    ),
    "disconnected": Kind(
        ("health",),
        LOSS,
        "health.md#what-the-words-mean",
        "disappeared at Makini",
        "Two complete connection lists do not contain it, and nobody disconnected it here. Every "
        "call on this connection fails, and the product gets no token for it.",
        "Linekeeper resolves this incident when Makini lists the connection again. If it is gone "
        "for good, run disconnect, or adopt with Accept what is missing; a new login makes a new "
        "connection.",
    ),
    "login_ending": Kind(
        ("expiry",),
        NORMAL,
        "logins-that-end.md",
        "",
        "The stored login ends soon, and Makini refuses to renew it without the customer.",
        "Send the customer a connect link (run connect). The login resolves this incident; "
        "without one it becomes Reauthorization required at the end.",
        mails_customer=True,
    ),
    "list_failed": Kind(
        ("list",),
        LOSS,
        "health.md#reading-the-runs",
        "can't be read",
        "Makini's list of connections can't be read: what is new, gone or inactive there is not "
        "seen. Connections whose token Linekeeper has are checked as before.",
        "Linekeeper asks again in every sweep, and resolves this incident when the list can be "
        "read. If Makini refuses the login, correct the client id and secret in the MakiniApp "
        "block.",
    ),
    "list_truncated": Kind(
        ("list",),
        NORMAL,
        "health.md#reading-the-runs",
        "looks truncated",
        "The connection list looks truncated. Nothing was changed: tokens are issued as before.",
        "Linekeeper reads it again in every sweep, and resolves this incident when the list is "
        "complete. If the connections are gone for good, run adopt with Accept what is missing.",
    ),
    "budget_too_small": Kind(
        ("budget",),
        MINOR,
        "health.md#how-often",
        "",
        "The calls to Makini that this app may make are fewer than its connections need. Nothing "
        "is lost; trouble and changes are found later than the settings say.",
        "Raise `per_minute` of the MakiniApp block if Makini allows more, or `probe_minutes` of "
        "the HealthPolicy block; read fewer entities, or less often (`workflow-configuration`). "
        "Linekeeper resolves this incident once a tenth of the calls is to spare.",
    ),
    "entity_forbidden": Kind(
        ("entities",),
        NORMAL,
        "reconcile.md#one-entity-that-cant-be-read",
        "",
        "Makini or the customer's system refuses to let this entity be read. The login works: "
        "nobody needs to log in.",
        "Give the connection permission for the entity in Makini's dashboard or in the customer's"
        " system, or take the entity out of the block's list. Linekeeper tries again "
        "automatically.",
    ),
    "entity_failing": Kind(
        ("entities",),
        NORMAL,
        "reconcile.md#one-entity-that-cant-be-read",
        "",
        "This entity can't be read, though its connection answers. The login is not in doubt.",
        "Linekeeper tries again automatically, at growing intervals of up to 6 hours, and "
        "resolves this incident once the entity can be read.",
    ),
    "reads_limited": Kind(
        ("entities",),
        NORMAL,
        "reconcile.md#call-limits",
        "",
        "Makini answers reads with 429: the call limit of the connection, or of the account, is "
        "used up. The login is not in doubt. What changes is found late, or by webhooks only.",
        "Ask Makini for a higher limit, or have whoever shares it call less: lower `per_minute` "
        "in the MakiniApp block, or read less often by `workflow-configuration`. Linekeeper tries"
        " again at growing intervals of up to 6 hours, and resolves this incident once all is "
        "read.",
    ),
    "entity_unsynced": Kind(
        ("entities",),
        NORMAL,
        "reconcile.md#one-entity-that-cant-be-read",
        "",
        "Makini says that its own sync of this entity failed. The connection answers, and the "
        "login is not in doubt; what is read of the entity may be old.",
        "Linekeeper resolves this incident once Makini says that the entity is synced again. If "
        "it goes on, start its sync in Makini's dashboard, or ask Makini's support with the words"
        " above.",
    ),
    "entity_inconsistent": Kind(
        ("entities",),
        NORMAL,
        "reconcile.md#is-everything-here",
        "",
        "The source lists more or fewer records than its own total says, its list ends too early, "
        "or some of its records have no key of their own.",
        "Linekeeper lists them again every day, in both orders, and resolves this incident once "
        "all of them come. Ask Makini's support what limits the listing.",
    ),
    "records_unmatched": Kind(
        ("succession",),
        NORMAL,
        "reconcile.md#when-a-login-makes-a-new-connection",
        "",
        "A new login made a new connection, and some of the earlier records can't be "
        "distinguished under their new keys. None of them was deleted or announced.",
        "Run deletions with show, which lists what waits. Say which records are the same, and "
        "decide about those of which too little is known. Linekeeper resolves this incident when "
        "none waits any more.",
    ),
    "deletions_held": Kind(
        ("deletions",),
        NORMAL,
        "reconcile.md#when-records-disappear",
        "",
        "Two complete listings lack so many records that none was deleted here.",
        "Accept or refuse in the form `deletions`. Linekeeper resolves this incident then, or "
        "when the records are listed again.",
    ),
}
