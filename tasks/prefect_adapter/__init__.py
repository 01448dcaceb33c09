"""Prefect, as Linekeeper uses it: what `linekeeper/orchestrator.py` asks for, over its own client.

Beside the commands the only package of the core that imports Prefect. Flows and tasks use it, too:
how things are called there, links to its pages, the artifacts, and what `deploy` puts there.
"""
