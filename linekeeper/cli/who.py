"""Who sits at the command line, for the audit."""

import getpass


def who() -> str:
    """`anna (command line)`."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return f"{name} (command line)"
