"""A model of Makini, written from its public contract alone; it shares no code with Linekeeper."""
