"""What programs get as an answer: SQLModel models, from which the OpenAPI document is made too."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import PlainSerializer
from sqlmodel import SQLModel

UtcTime = Annotated[
    datetime, PlainSerializer(datetime.isoformat, return_type=str, when_used="json")
]
"""ISO-8601 with `+00:00`."""


class Answer(SQLModel):
    """An answer, or a part of one.

    What is always there has no default; a field with a default is left out where it was not set.
    """

    def as_json(self) -> dict[str, Any]:
        """Plain data with stable keys; times as ISO-8601 UTC."""
        return self.model_dump(mode="json", exclude_unset=True)

    def encoded(self) -> bytes:
        return self.model_dump_json(exclude_unset=True).encode()
