"""Linekeeper keeps Makini connections live. This package is the Prefect-free core."""

__version__ = "0.2.0"
