"""The artifact `webhooks` as Markdown. Pure; times are shown in UTC."""

from collections.abc import Sequence

from linekeeper.customers.naming import label
from linekeeper.markdown import code, table, text, when
from linekeeper.text import counted
from linekeeper.views.webhook_figures import Counted, Figures, ListedEvent

MAX_ERROR = 200


def webhooks_headline(figures: Figures) -> str:
    """One line: how the stream of webhooks is."""
    waiting = figures.total("pending")
    parts = [f"{figures.total('processed'):,} processed in a day"]
    if waiting:
        oldest = min((s.oldest_at for s in figures.streams if s.oldest_at), default=None)
        since = f", the oldest since {when(oldest)}" if oldest else ""
        parts.append(f"{waiting:,} waiting{since}")
    if figures.dead_total:
        parts.append(f"{figures.dead_total:,} dead")
    if count := figures.total("unrouted"):
        parts.append(f"{count:,} unrouted")
    return ", ".join(parts)


def not_applied(figures: Figures) -> str:
    """`1 waiting, 2 dead`, or `all applied`."""
    counts = (
        (figures.total("pending"), "waiting"),
        (figures.dead_total, "dead"),
        (figures.total("unrouted"), "unrouted"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in counts if count) or "all applied"


def webhooks_markdown(figures: Figures) -> str:
    """The whole artifact."""
    parts = [
        f"# {webhooks_headline(figures)}",
        f"{when(figures.at)} · counts are of the last 24 hours",
        "## By app",
        table(
            [
                "App",
                "Waiting",
                "Oldest",
                "To try again",
                "Applied after (p95)",
                "Dead",
                "Last came",
            ],
            (
                [
                    text(stream.app),
                    f"{stream.pending:,}",
                    when(stream.oldest_at),
                    f"{stream.failing:,}",
                    f"{stream.lag_seconds:.1f} s",
                    f"{stream.dead:,}",
                    when(stream.habit.last_at) if stream.habit else "—",
                ]
                for stream in figures.streams
            ),
        ),
        "## Events",
        _counts(figures.statuses, "Status"),
    ]
    if figures.failing:
        failing = sum(stream.failing for stream in figures.streams)
        parts += ["## To be tried again", *_listed(figures.failing, failing)]
    if figures.dead:
        dead = _listed(figures.dead, figures.dead_total)
        parts += ["## Dead", _what_helps(figures), *dead]
    if figures.unrouted:
        unrouted = _listed(figures.unrouted, figures.unrouted_total)
        parts += ["## Of no connection that is known", *unrouted]
    if figures.deliveries:
        parts += ["## Left no event", _counts(figures.deliveries, "Why")]
    if figures.rejected:
        parts += [
            "Turned away last:",
            table(
                ["When", "App", "Why", "Path", "Bytes"],
                (
                    [
                        when(rejected.at),
                        text(rejected.app),
                        text(rejected.cause.replace("_", " ")),
                        text(rejected.path, 100),
                        f"{rejected.size:,}",
                    ]
                    for rejected in figures.rejected
                ),
            ),
        ]
    if figures.forwards:
        parts += ["## Handed on to the product", _counts(figures.forwards, "Status")]
        parts += [text(s.forward_error, MAX_ERROR) for s in figures.streams if s.forward_error]
    return "\n\n".join(part for part in parts if part)


def _what_helps(figures: Figures) -> str:
    unreadable = sum(stream.unreadable for stream in figures.streams)
    said = []
    if figures.dead_total > unreadable:
        said.append("Fix the cause, then run `replay-webhooks` (status `dead`; dry run first).")
    if unreadable:
        said.append(
            f"The body of {counted(unreadable, 'webhook')} cannot be read, and a replay does not "
            f"help {'it' if unreadable == 1 else 'them'}: show Makini what is said of it."
        )
    return " ".join(said)


def whose(event: ListedEvent) -> str:
    """`Customer · System`, or what the sender calls the connection."""
    if event.name is not None:
        return label(event.customer, event.provider or "", event.name, event.told_apart_by)
    return event.ref or "no connection"


def _listed(events: Sequence[ListedEvent], total: int) -> list[str]:
    """The events as a table, and how many of `total` are left out."""
    remaining = total - len(events)
    rows = table(
        ["Received", "Connection", "Event", "Why", "Id"],
        (
            [
                when(row.at),
                text(whose(row)),
                text(row.event),
                text(row.error, MAX_ERROR),
                code(row.id),
            ]
            for row in events
        ),
    )
    return [rows, f"… and {remaining:,} more"] if remaining > 0 else [rows]


def _counts(counts: Sequence[Counted], what: str) -> str:
    apps = any(row.app for row in counts)
    return table(
        [*(["App"] if apps else []), what, "Count"],
        (
            [
                *([text(row.app or "(unknown)")] if apps else []),
                text(row.what.replace("_", " ")),
                f"{row.count:,}",
            ]
            for row in counts
        ),
    )
