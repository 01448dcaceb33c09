"""A Makini in a box: a seeded fleet over real HTTP, with faults on demand, and a Slack to match.

Written from MAKINI.md without a line of the client, so that one proves the other. It listens on
this machine only.
"""

from .app import Served, create_app, run, serving
from .settings import Settings
from .world import World

__all__ = ["Served", "Settings", "World", "create_app", "run", "serving"]
