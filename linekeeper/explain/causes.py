"""One entry a cause: the hop that is missing, whose it is, and what to do about it."""

from collections.abc import Mapping
from typing import NamedTuple

from linekeeper.explain.answer import Cause, Diagnosis, HopName, Party


class Consequence(NamedTuple):
    """What follows from a cause."""

    missing: HopName | None
    owner: Party
    next_step: str


_LOOK_IN_THE_PRODUCT = "Look in the product: it has been given the change."
_NOT_YET_HERE = (
    "If it was changed later, that has not reached Linekeeper yet: the next poll of its entity "
    "finds it, once Makini has it."
)
_LOGIN = "The customer logs in through the connect link; Linekeeper then backfills what was missed."
_WHEN_REACHABLE = "Linekeeper reads what was missed as soon as the system is reachable again."

CAUSES: Mapping[Cause, Consequence] = {
    Cause.nothing_missing: Consequence(None, Party.nobody, "Nothing."),
    Cause.webhook_lost: Consequence(
        HopName.webhook,
        Party.makini,
        "There is nothing to do for this record. If it repeats, show Makini's support the trust "
        "figures of this connection.",
    ),
    Cause.webhook_late: Consequence(
        HopName.webhook,
        Party.makini,
        "There is nothing to do for this record. Makini's sync interval, or its retries after we "
        "did not answer, explain a delay.",
    ),
    Cause.webhooks_never: Consequence(
        HopName.webhook,
        Party.us,
        "Set up webhooks for the connection in Makini's dashboard (docs/webhooks.md).",
    ),
    Cause.rejected: Consequence(
        HopName.accepted,
        Party.us,
        "Compare the webhook secret of the MakiniApp block with the one in Makini's dashboard.",
    ),
    Cause.our_outage: Consequence(
        HopName.webhook,
        Party.us,
        "There is nothing to do for this record. Look why the receiver was away in that time.",
    ),
    Cause.unrouted: Consequence(
        HopName.read,
        Party.us,
        "Import the connection (deployment adopt), or check the connection id in the webhook's URL "
        "at Makini; then run replay-webhooks with status unrouted.",
    ),
    Cause.dead: Consequence(
        HopName.read,
        Party.us,
        "Fix what the reason names, then run replay-webhooks for this delivery.",
    ),
    Cause.waiting: Consequence(
        HopName.claimed,
        Party.us,
        "Look whether the consumer runs (`linekeeper status`, `linekeeper doctor`).",
    ),
    Cause.retrying: Consequence(
        HopName.read,
        Party.us,
        "Wait for the next attempt. If it goes on, look at the connection's page.",
    ),
    Cause.stale: Consequence(
        None, Party.nobody, "There is nothing to do: a newer state is in effect."
    ),
    Cause.deferred_login: Consequence(HopName.read, Party.customer, _LOGIN),
    Cause.deferred_unreachable: Consequence(HopName.read, Party.customer, _WHEN_REACHABLE),
    Cause.deferred_without_token: Consequence(
        HopName.read,
        Party.us,
        "Give the connection a token (`POST /api/tokens`), or set the app's mode to manage.",
    ),
    Cause.deferred_given_back: Consequence(
        HopName.read,
        Party.product,
        "Nothing, if your product was to take over. For records to be read here again, hand the "
        "present tokens over (`POST /api/tokens`).",
    ),
    Cause.deferred: Consequence(
        HopName.read, Party.us, "Wait for the next poll, or run reconcile for this connection."
    ),
    Cause.outside_entities: Consequence(
        HopName.read,
        Party.us,
        "Add the entity to the MakiniApp block if the product needs it.",
    ),
    Cause.absent_at_source: Consequence(
        HopName.read,
        Party.customer,
        "Look whether the record was deleted in the customer's system, or whether the integration "
        "user may not see it.",
    ),
    Cause.no_news: Consequence(None, Party.nobody, _NOT_YET_HERE),
    Cause.baseline: Consequence(None, Party.nobody, _NOT_YET_HERE),
    Cause.deleted: Consequence(
        None,
        Party.nobody,
        "There is nothing to do, unless the customer did not delete it: the deployment deletions "
        "can undo it.",
    ),
    Cause.deletion_held: Consequence(HopName.poll, Party.us, "Decide in the deployment deletions."),
    Cause.outside_window: Consequence(
        HopName.poll,
        Party.makini,
        "Ask Makini for a longer historical period for this connection, or let the customer change "
        "the record in their system.",
    ),
    Cause.listing_incomplete: Consequence(
        HopName.poll,
        Party.makini,
        "Ask Makini's support what limits the listing of this entity, with the two numbers.",
    ),
    Cause.product_accepted: Consequence(None, Party.product, _LOOK_IN_THE_PRODUCT),
    Cause.product_refused: Consequence(
        HopName.forward,
        Party.product,
        "Look in the product's log for this webhook-id. Linekeeper repeats it for three days.",
    ),
    Cause.product_unreachable: Consequence(
        HopName.forward,
        Party.product,
        "Make the product's address answer. Linekeeper repeats it for three days.",
    ),
    Cause.product_gone: Consequence(
        HopName.forward, Party.product, "Correct the forward URL in the MakiniApp block."
    ),
    Cause.forward_waiting: Consequence(
        HopName.forward,
        Party.us,
        "Look whether the consumer runs and whether the product answers other messages.",
    ),
    Cause.forward_gave_up: Consequence(
        HopName.forward,
        Party.product,
        "Run replay-webhooks for this delivery once the product takes messages again.",
    ),
    Cause.feed_unread: Consequence(
        HopName.feed,
        Party.product,
        "Let the product poll `GET /api/changes`, or set a forward URL in the MakiniApp block.",
    ),
    Cause.not_recorded: Consequence(
        None,
        Party.nobody,
        "Look in the product. The deployment housekeeping (trace_days) says how long this is kept.",
    ),
    Cause.disconnected: Consequence(
        HopName.source,
        Party.customer,
        "Ask again with the successor where one is named; otherwise connect the system again.",
    ),
    Cause.not_connected: Consequence(
        HopName.source, Party.customer, "The customer logs in through the connect link."
    ),
    Cause.login_lost: Consequence(HopName.poll, Party.customer, _LOGIN),
    Cause.system_unreachable: Consequence(HopName.poll, Party.customer, _WHEN_REACHABLE),
    Cause.entity_failing: Consequence(
        HopName.poll,
        Party.makini,
        "Fix what the reason names; if it is Makini's, report it with the entity named.",
    ),
    Cause.entity_not_offered: Consequence(
        HopName.poll, Party.makini, "Ask Makini whether the integration can be extended."
    ),
    Cause.never_polled: Consequence(
        HopName.poll,
        Party.us,
        "Run reconcile for this connection, or wait for the next scheduled run.",
    ),
    Cause.never_seen: Consequence(
        HopName.source,
        Party.customer,
        "Check the key or number, and whether the integration user may see the record.",
    ),
    Cause.notified: Consequence(None, Party.nobody, "Nothing."),
    Cause.muted: Consequence(
        HopName.policy, Party.us, "Wait for the end of the mute, or acknowledge the incident."
    ),
    Cause.silenced: Consequence(
        HopName.policy,
        Party.us,
        "Wait until then; a maintenance window can be ended early (deployment maintenance-window).",
    ),
    Cause.quiet_hours: Consequence(
        HopName.policy,
        Party.us,
        "Wait for the end of the quiet hours, or change them in the AlertPolicy block.",
    ),
    Cause.held_alike: Consequence(
        HopName.policy, Party.us, "Wait a moment: Linekeeper decides whether it is one root cause."
    ),
    Cause.held_checked: Consequence(
        HopName.policy, Party.us, "Wait a moment: it is notified if the login does not work."
    ),
    Cause.held_lasting: Consequence(
        HopName.policy, Party.us, "Wait: it is notified if the trouble lasts (AlertPolicy)."
    ),
    Cause.merged: Consequence(None, Party.nobody, "Ask about the incident in which it goes on."),
    Cause.never_notified: Consequence(
        HopName.policy, Party.us, "There is nothing to do: the incident's timeline has it."
    ),
    Cause.slack_unconfigured: Consequence(
        HopName.delivered, Party.us, "Fill in the SlackChannel block (docs/slack.md)."
    ),
    Cause.message_dead: Consequence(
        HopName.delivered, Party.us, "Fix what the reason names; `linekeeper doctor` tests it."
    ),
    Cause.message_waiting: Consequence(
        HopName.delivered, Party.us, "Look whether the consumer runs and the channel answers."
    ),
    Cause.message_suppressed: Consequence(
        HopName.policy,
        Party.us,
        "There is nothing to do: a newer message, or the policy, made it superfluous.",
    ),
}


def verdict(
    cause: Cause, summary: str, *, missing: HopName | None = None, next_step: str | None = None
) -> Diagnosis:
    """What follows from `cause`; `missing` and `next_step` are others than the usual ones."""
    entry = CAUSES[cause]
    next_step = entry.next_step if next_step is None else next_step
    return Diagnosis(cause, missing or entry.missing, entry.owner, summary, next_step)
