"""Observe and judge: the state of one connection."""
