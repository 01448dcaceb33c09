"""What can be wrong with the webhooks, the product, the network, and Linekeeper itself."""

from linekeeper.incidents.registry import LOSS, MINOR, NORMAL, Kind

_RUN = Kind(
    ("runs",),
    NORMAL,
    "operations.md#when-something-is-red",
    "",
    "Prefect reports that a run of Linekeeper did not do its work.",
    "`linekeeper doctor` says whether workers and pool are well. This incident resolves "
    "automatically when another run succeeds.",
)
OF_THE_HOUSE = {
    "certificate_ending": Kind(
        ("preflight_evidence",),
        NORMAL,
        "preflight.md#as-a-flow-and-daily",
        "",
        "The certificate of the customer's system ends. After that Makini can't reach it.",
        "Ask the customer's IT to renew it, then run preflight, which resolves this incident. It "
        "is announced 30, 14 and 3 days ahead.",
    ),
    "preflight_missing": Kind(
        ("preflight_evidence",),
        NORMAL,
        "preflight.md#as-a-flow-and-daily",
        "address not checked",
        "The system is reached at another address than the one that was verified. Nobody watches "
        "it there.",
        "Run preflight for it, or import the customer's report; either resolves this incident, "
        "and the daily check goes on there.",
    ),
    "preflight_outdated": Kind(
        ("preflight_evidence",),
        NORMAL,
        "preflight.md#as-a-flow-and-daily",
        "report outdated",
        "The last verified check that the system can be reached is more than a month old.",
        "Run preflight from there, or import the customer's new report; either resolves this "
        "incident.",
    ),
    "webhooks_unconfigured": Kind(
        ("webhooks",),
        MINOR,
        "webhooks.md#watch-it",
        "",
        "Records changed, and not one webhook ever came. Changes are found by reading only.",
        "In Makini's dashboard, send the webhooks to the address that the thread names. "
        "Linekeeper resolves this incident when one comes.",
    ),
    "preflight_failed": Kind(
        ("preflight",),
        NORMAL,
        "preflight.md#as-a-flow-and-daily",
        "",
        "A network check that was in order no longer is.",
        "Have the customer's IT put it right; the thread says what was found. Linekeeper resolves"
        " this incident when a check finds it in order.",
    ),
    "canary_lost": Kind(
        ("canary",),
        LOSS,
        "operations.md#who-watches-linekeeper",
        "",
        "A signed event that Linekeeper sent itself through the public address did not come "
        "through. Makini's webhooks probably don't either; reconcile finds what they miss.",
        "Linekeeper sends one again every few minutes, and resolves this incident when one comes "
        "through.",
    ),
    "part_silent": Kind(
        ("parts", "answers"),
        LOSS,
        "operations.md#who-watches-linekeeper",
        "",
        "A part of Linekeeper was killed, hangs, or does not reach the database.",
        "Restart it where nothing does; `linekeeper doctor` shows every part. This incident "
        "resolves automatically when the part reports again or another takes its place.",
    ),
    "pool_without_worker": Kind(
        ("parts",),
        LOSS,
        "operations.md#who-watches-linekeeper",
        "",
        "No worker starts the runs of the work pool.",
        "Start a worker: `prefect worker start --pool linekeeper`. This incident resolves "
        "automatically when one polls again.",
    ),
    "prefect_silent": Kind(
        ("parts",),
        NORMAL,
        "operations.md#who-watches-linekeeper",
        "",
        "The Prefect API does not answer the consumer.",
        "Restart the server, or correct PREFECT_API_URL. This incident resolves automatically "
        "when it answers.",
    ),
    "run_failed": _RUN,
    "run_crashed": _RUN,
    "run_late": Kind(
        ("runs",),
        NORMAL,
        "operations.md#late-runs",
        "",
        "Runs of Linekeeper wait past their time, because something holds them up.",
        "`linekeeper doctor` says what to do. This incident resolves automatically when the runs "
        "start.",
    ),
    "pool_not_ready": Kind(
        ("runs",),
        NORMAL,
        "operations.md#late-runs",
        "",
        "No worker starts the runs of the work pool.",
        "Start a worker, or resume the pool. This incident resolves automatically when the pool "
        "is ready.",
    ),
    "work_overdue": Kind(
        ("parts",),
        LOSS,
        "operations.md#who-watches-linekeeper",
        "",
        "Work that is due regularly was not completed.",
        "`linekeeper doctor` says why runs are late. This incident resolves automatically when it"
        " is completed.",
    ),
    "webhooks_unrouted": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "Run `adopt` where the connection is missing here, correct the URL at Makini where it "
        "names another, then run `replay-webhooks` with the status `unrouted`. Linekeeper looks "
        "for a connection for a day.",
    ),
    "webhooks_forged": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "The artifact `webhooks` shows what was turned away, and why. This incident is resolved "
        "when deliveries are accepted again, or the burst is over.",
    ),
    "forward_dead": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "Once the product takes messages again, run `replay-webhooks` with the status "
        "`forward_dead`: they are handed on under their ids, and this incident is resolved.",
    ),
    "forward_refused": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "Linekeeper tries again at growing intervals, for three days, and resolves this incident "
        "once the product accepts it.",
    ),
    "forward_behind": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "Linekeeper tries again every 15 s, for three days. Once the product is back, everything "
        "follows in order and this incident is resolved.",
    ),
    "webhooks_dead": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "Fix the cause that the artifact `webhooks` names, then run `replay-webhooks`: it applies "
        "those whose body can be read. This incident is resolved once none of these is dead and "
        "the last one that cannot be read is a day old.",
    ),
    "webhooks_failing": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "The artifact `webhooks` names them and says why. Linekeeper tries them again at growing "
        "intervals, and resolves this incident when few fail. Those that it gives up are an "
        "incident of their own.",
    ),
    "webhooks_behind": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "`linekeeper status` says whether a consumer runs; start one where none does. None is "
        "lost: what waits is applied then, and this incident is resolved.",
    ),
    "webhooks_silent": Kind(
        ("stream",),
        NORMAL,
        "webhooks.md#watch-it",
        "",
        "",
        "Compare the webhook URL in Makini's dashboard with Linekeeper's address. Meanwhile "
        "`reconcile` finds what changes. This incident is resolved when a webhook comes.",
    ),
}
