"""What Prometheus sees of the receiver; with several workers their figures are added up."""

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    multiprocess,
)

DELIVERIES = Counter(
    "linekeeper_deliveries",
    "Webhook deliveries by answer: accepted, canary, duplicate, or why they were turned away.",
    ["app", "answer"],
)
BATCH_ROWS = Histogram(
    "linekeeper_intake_batch_rows",
    "Deliveries stored in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
COMMIT_SECONDS = Histogram(
    "linekeeper_intake_commit_seconds",
    "From the beginning of a transaction to its commit.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 4),
)
__all__ = ["BATCH_ROWS", "COMMIT_SECONDS", "CONTENT_TYPE_LATEST", "DELIVERIES"]


def observe_batch(rows: int, seconds: float) -> None:
    """Note one committed transaction."""
    BATCH_ROWS.observe(rows)
    COMMIT_SECONDS.observe(seconds)


def exposition() -> bytes:
    """All figures in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # theirs
    return generate_latest(registry)
