"""What was meant by a name that nobody has. Pure."""

import difflib
from collections.abc import Mapping

from slugify import slugify

SHOWN = 5


def nearest(wanted: str, names: Mapping[str, str]) -> str:
    """The few of `names` that come nearest to `wanted`, as they are shown.

    First those that contain it, with or without accents, then those that are spelled alike; where
    nothing comes near, the first by the alphabet. `names` has what is shown by what it is called.
    """
    slugs = {slugify(name): shown for name, shown in names.items()}
    asked = slugify(wanted)
    near = sorted(slug for slug in slugs if asked and asked in slug)[:SHOWN]
    near += difflib.get_close_matches(asked, list(slugs), n=SHOWN, cutoff=0.3)
    offers = list(dict.fromkeys(slugs[slug] for slug in near)) or sorted(set(names.values()))
    return "; ".join(offers[:SHOWN])
