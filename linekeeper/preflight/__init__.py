"""Network checks from a stated vantage, and what the customer's IT is handed.

Everything but `intake` needs nothing beyond Python's standard library, so that `bundle` can put it
into one file for machines where Linekeeper isn't installed.
"""
