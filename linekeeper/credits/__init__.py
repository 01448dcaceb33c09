"""Connection credits: what they cost, who holds them, what will be needed, what leaks.

Makini publishes no balance, so this ledger is our estimate, checked against its live list.
"""
