"""What the form of a suspended run says above its fields."""


def not_taken(fault: str | None) -> str:
    """What the next form begins with where the last answer was refused for `fault`."""
    return f"**Your last answer was not taken:** {fault}.\n\n" if fault else ""
