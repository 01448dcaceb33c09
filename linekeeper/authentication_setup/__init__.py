"""Setting up a login: from the technical requirements to the first status of the connection."""
