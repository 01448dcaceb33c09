"""Who is notified of what, and when: the alert policy, and messages as people read them."""
