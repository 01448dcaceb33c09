"""What leaves the house: a queue written in the transaction of its cause, and what delivers it."""
