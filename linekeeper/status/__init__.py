"""Everything at a glance: what `linekeeper status` shows."""

from linekeeper.status.glance import Glance, glance

__all__ = ["Glance", "glance"]
