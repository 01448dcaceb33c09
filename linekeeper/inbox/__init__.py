"""The way from a POST to an event that is applied exactly once.

`verify` says whether a delivery is genuine, `identify` what it is, `intake` makes it durable
before anybody is answered so. Nothing here speaks HTTP.
"""
