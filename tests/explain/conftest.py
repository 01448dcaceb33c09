"""The fleet, the product and the stage of the tests of processing."""

from tests.inbox.process.conftest import (
    adopted,
    fleet,
    product,
    stage,
    stage_settings,
)

__all__ = ["adopted", "fleet", "product", "stage", "stage_settings"]
