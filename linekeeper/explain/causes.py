"""One entry a cause: the hop that is missing, whose it is, and what to do about it."""

from collections.abc import Mapping
from typing import NamedTuple

from linekeeper.explain.answer import Cause, Diagnosis, HopName, Party


class Entry(NamedTuple):
    """What follows from a cause."""

    missing: HopName | None
    owner: Party
    next_step: str


_LOOK_IN_THE_PRODUCT = "Look in the product: it has been given the change."
_NOT_YET_AT_MAKINI = "If the customer changed it later, that change has not reached Makini yet."
_LOGIN = "The customer logs in through the connect link; Linekeeper then backfills what was missed."
_WHEN_REACHABLE = "Linekeeper reads what was missed as soon as the system is reachable again."

CAUSES: Mapping[Cause, Entry] = {
    Cause.nothing_missing: Entry(None, Party.nobody, "Nothing."),
    Cause.webhook_lost: Entry(
        HopName.webhook,
        Party.makini,
        "There is nothing to do for this record. If it repeats, show Makini's support the trust "
        "figures of this connection.",
    ),
    Cause.webhook_late: Entry(
        HopName.webhook,
        Party.makini,
        "There is nothing to do for this record. Makini's sync interval, or its retries after we "
        "did not answer, explain a delay.",
    ),
    Cause.webhooks_never: Entry(
        HopName.webhook,
        Party.us,
        "Set up webhooks for the connection in Makini's dashboard (docs/webhooks.md).",
    ),
    Cause.rejected: Entry(
        HopName.accepted,
        Party.us,
        "Compare the webhook secret of the MakiniApp block with the one in Makini's dashboard.",
    ),
    Cause.our_outage: Entry(
        HopName.webhook,
        Party.us,
        "There is nothing to do for this record. Look why the receiver was away in that time.",
    ),
    Cause.unrouted: Entry(
        HopName.read,
        Party.us,
        "Import the connection (deployment adopt), or check the connection id in the webhook's URL "
        "at Makini; then run replay-webhooks with status unrouted.",
    ),
    Cause.dead: Entry(
        HopName.read,
        Party.us,
        "Fix what the reason names, then run replay-webhooks for this delivery.",
    ),
    Cause.waiting: Entry(
        HopName.claimed,
        Party.us,
        "Look whether the consumer runs (`linekeeper status`, `linekeeper doctor`).",
    ),
    Cause.retrying: Entry(
        HopName.read,
        Party.us,
        "Wait for the next attempt. If it goes on, look at the connection's page.",
    ),
    Cause.stale: Entry(None, Party.nobody, "There is nothing to do: a newer state is in effect."),
    Cause.deferred_login: Entry(HopName.read, Party.customer, _LOGIN),
    Cause.deferred_unreachable: Entry(HopName.read, Party.customer, _WHEN_REACHABLE),
    Cause.deferred_without_token: Entry(
        HopName.read,
        Party.us,
        "Give the connection a token (`POST /api/tokens`), or set the app's mode to manage.",
    ),
    Cause.deferred: Entry(
        HopName.read, Party.us, "Wait for the next poll, or run reconcile for this connection."
    ),
    Cause.outside_entities: Entry(
        HopName.read,
        Party.us,
        "Add the entity to the MakiniApp block if the product needs it.",
    ),
    Cause.absent_at_source: Entry(
        HopName.read,
        Party.customer,
        "Look whether the record was deleted in the customer's system, or whether the integration "
        "user may not see it.",
    ),
    Cause.no_news: Entry(None, Party.nobody, _NOT_YET_AT_MAKINI),
    Cause.baseline: Entry(None, Party.nobody, _NOT_YET_AT_MAKINI),
    Cause.deleted: Entry(
        None,
        Party.nobody,
        "There is nothing to do, unless the customer did not delete it: the deployment deletions "
        "can undo it.",
    ),
    Cause.deletion_held: Entry(HopName.poll, Party.us, "Decide in the deployment deletions."),
    Cause.outside_window: Entry(
        HopName.poll,
        Party.makini,
        "Ask Makini for a longer historical period for this connection, or let the customer change "
        "the record in their system.",
    ),
    Cause.listing_incomplete: Entry(
        HopName.poll,
        Party.makini,
        "Ask Makini's support what limits the listing of this entity, with the two numbers.",
    ),
    Cause.product_accepted: Entry(None, Party.product, _LOOK_IN_THE_PRODUCT),
    Cause.product_refused: Entry(
        HopName.forward,
        Party.product,
        "Look in the product's log for this webhook-id. Linekeeper repeats it for three days.",
    ),
    Cause.product_unreachable: Entry(
        HopName.forward,
        Party.product,
        "Make the product's address answer. Linekeeper repeats it for three days.",
    ),
    Cause.product_gone: Entry(
        HopName.forward, Party.product, "Correct the forward URL in the MakiniApp block."
    ),
    Cause.forward_waiting: Entry(
        HopName.forward,
        Party.us,
        "Look whether the consumer runs and whether the product answers other messages.",
    ),
    Cause.forward_gave_up: Entry(
        HopName.forward,
        Party.product,
        "Run replay-webhooks for this delivery once the product takes messages again.",
    ),
    Cause.feed_unread: Entry(
        HopName.feed,
        Party.product,
        "Let the product poll `GET /api/changes`, or set a forward URL in the MakiniApp block.",
    ),
    Cause.not_recorded: Entry(
        None,
        Party.nobody,
        "Look in the product. The deployment housekeeping (trace_days) says how long this is kept.",
    ),
    Cause.disconnected: Entry(
        HopName.source,
        Party.customer,
        "Ask again with the successor where one is named; otherwise connect the system again.",
    ),
    Cause.not_connected: Entry(
        HopName.source, Party.customer, "The customer logs in through the connect link."
    ),
    Cause.login_lost: Entry(HopName.poll, Party.customer, _LOGIN),
    Cause.system_unreachable: Entry(HopName.poll, Party.customer, _WHEN_REACHABLE),
    Cause.entity_failing: Entry(
        HopName.poll,
        Party.makini,
        "Fix what the reason names; if it is Makini's, report it with the entity named.",
    ),
    Cause.entity_not_offered: Entry(
        HopName.poll, Party.makini, "Ask Makini whether the integration can be extended."
    ),
    Cause.never_polled: Entry(
        HopName.poll,
        Party.us,
        "Run reconcile for this connection, or wait for the next scheduled run.",
    ),
    Cause.never_seen: Entry(
        HopName.source,
        Party.customer,
        "Check the key or number, and whether the integration user may see the record.",
    ),
    Cause.notified: Entry(None, Party.nobody, "Nothing."),
    Cause.muted: Entry(
        HopName.policy, Party.us, "Wait for the end of the mute, or acknowledge the incident."
    ),
    Cause.silenced: Entry(
        HopName.policy,
        Party.us,
        "End the maintenance window early (deployment maintenance-window) to be notified.",
    ),
    Cause.quiet_hours: Entry(
        HopName.policy,
        Party.us,
        "Wait for the end of the quiet hours, or change them in the AlertPolicy block.",
    ),
    Cause.held_alike: Entry(
        HopName.policy, Party.us, "Wait a moment: Linekeeper decides whether it is one root cause."
    ),
    Cause.held_checked: Entry(
        HopName.policy, Party.us, "Wait a moment: it is notified if the login does not work."
    ),
    Cause.held_lasting: Entry(
        HopName.policy, Party.us, "Wait: it is notified if the trouble lasts (AlertPolicy)."
    ),
    Cause.held_cap: Entry(
        HopName.policy,
        Party.us,
        "Wait: it is sent when the hour's cap of first messages (AlertPolicy) allows it.",
    ),
    Cause.merged: Entry(None, Party.nobody, "Ask about the incident in which it goes on."),
    Cause.never_notified: Entry(
        HopName.policy, Party.us, "There is nothing to do: the incident's timeline has it."
    ),
    Cause.slack_unconfigured: Entry(
        HopName.delivered, Party.us, "Fill in the SlackChannel block (docs/slack.md)."
    ),
    Cause.message_dead: Entry(
        HopName.delivered, Party.us, "Fix what the reason names; `linekeeper doctor` tests it."
    ),
    Cause.message_waiting: Entry(
        HopName.delivered, Party.us, "Look whether the consumer runs and the channel answers."
    ),
    Cause.message_suppressed: Entry(
        HopName.policy,
        Party.us,
        "There is nothing to do: a newer message, or the policy, made it superfluous.",
    ),
}


def verdict(cause: Cause, summary: str, *, missing: HopName | None = None) -> Diagnosis:
    """What follows from `cause`; `missing` names another hop than the usual one."""
    entry = CAUSES[cause]
    return Diagnosis(cause, missing or entry.missing, entry.owner, summary, entry.next_step)
