"""Connect links, logins and whose they are; access tokens and keys for the product."""
