"""Observations → judged health → incidents; the sweep that makes them."""
