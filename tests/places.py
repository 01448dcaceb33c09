"""Where the tests keep what is written again and again: in memory, where there is enough of it."""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 2_000_000_000


def quick_folder() -> Path | None:
    """A folder in memory; None where there is none, or a small one: then the usual place.

    A commit waits for the disk, milliseconds that say nothing of what is tested.
    """
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ENOUGH_BYTES:
        return None
    return _MEMORY
