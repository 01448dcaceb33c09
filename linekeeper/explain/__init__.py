"""Explaining the way of one record, delivery, change, incident or message, hop by hop."""
