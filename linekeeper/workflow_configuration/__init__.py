"""What one connection is read for, how often, what is kept: set, then verified."""
