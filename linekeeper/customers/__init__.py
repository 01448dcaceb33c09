"""Customers and their connections: adopting what Makini lists, finding what people name."""
