"""The whole product as people meet it: one command, real services, a real browser."""
