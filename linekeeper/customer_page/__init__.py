"""What a customer sees of Linekeeper: one page of their own, without a login."""
