"""The link by which a customer logs in: made, signed, sent, used up."""
