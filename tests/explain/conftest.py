"""The fleet, the product and the stage of the tests of processing."""

from tests.inbox.process.conftest import fleet, product, stage

__all__ = ["fleet", "product", "stage"]
