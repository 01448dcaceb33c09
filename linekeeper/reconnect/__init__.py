"""Tokens and how they are renewed without the customer."""
