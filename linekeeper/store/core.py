"""The tables behind the models, for statements that go past the ORM."""

from typing import Any

from sqlalchemy import inspect
from sqlmodel import SQLModel


def table_of(model: type[SQLModel]) -> Any:
    """The table of `model`: SQLModel has it, and doesn't declare it."""
    return inspect(model).local_table
