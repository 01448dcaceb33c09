"""The canary: a signed synthetic event that goes the way of a webhook, from outside in."""
