"""What a form, or a command, asks for and can't have."""


class Refusal(Exception):
    """Nothing was changed. `field` is the parameter to change, the message why.

    `others` are further parameters, each with why; `faults` are all of them.
    """

    def __init__(self, field: str, reason: str, *others: tuple[str, str]) -> None:
        self.field = field
        self.faults = ((field, reason), *others)
        self.reason = "; ".join([reason, *(f"{name}: {why}" for name, why in others)])
        super().__init__(self.reason)


class FieldError(ValueError):
    """The same of what a function was handed: `field` is what to change, `reason` why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class UserError(Exception):
    """Something the user of a command can fix; `str()` is the whole line."""
