"""Words that several settings share."""

import re
from typing import Literal

ForwardForm = Literal["envelope", "original"]
SLUG = re.compile(r"[\w-]+")
"""A name of letters, digits, - and _ only."""
