"""A folder that the workers of one run share; whoever starts them removes it at the end."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_NAME = "SHARED_FOLDER_OF_TESTS"
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ[_NAME] = tempfile.mkdtemp(prefix="linekeeper-tests-")
    atexit.register(shutil.rmtree, os.environ[_NAME], ignore_errors=True)
FOLDER = Path(os.environ[_NAME])
