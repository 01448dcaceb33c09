"""HTTP in: the webhooks routes on raw ASGI, everything else on Starlette."""
