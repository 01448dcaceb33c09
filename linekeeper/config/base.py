"""What all settings have in common."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Fields(BaseModel):
    """Fields with their defaults, bounds and words: the core's settings and the block's form."""


class Config(BaseModel):
    """Settings as the core reads them: they don't change under its hands."""

    model_config = ConfigDict(frozen=True, extra="ignore")


ForwardForm = Literal["envelope", "original"]
SLUG = re.compile(r"[\w-]+")
"""A name of letters, digits, - and _ only."""
