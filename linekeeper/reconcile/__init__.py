"""Reconcile: an index of every connection's records that is right whatever the webhooks did.

`compare`, `watermark`, `deletes` and `trust` decide; `upsert` writes; `poll` reads one entity of
one connection to the end; `service` does that for the fleet.
"""
