"""The token pair of each connection: encrypted at rest, renewed one at a time, called with."""
