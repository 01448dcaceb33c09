"""The core in a simulated world: virtual time, model peers, seeded faults and an oracle."""
