"""The day in one message, and how well alerts work: measured, so that a policy can be tuned."""
