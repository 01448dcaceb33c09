"""Delivers the outbox and copies the blocks, whether Prefect is there or not."""
