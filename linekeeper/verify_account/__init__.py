"""Finding out on the operator's own account which assumptions about Makini hold."""
