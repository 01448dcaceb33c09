"""Delivers the outbox and copies the blocks, whether Prefect is there or not."""

from linekeeper.consumer.service import run_consumer

__all__ = ["run_consumer"]
