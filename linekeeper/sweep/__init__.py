"""One pass over all connections: the list, the probes, the state of the webhook stream."""
