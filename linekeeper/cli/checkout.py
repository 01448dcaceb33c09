"""Where a flow run works: the pull step of every deployment names it."""

import os

from tasks.prefect_adapter.project import root


def enter() -> dict[str, str]:
    """The pull step of every deployment: a run works in the folder its worker is installed from.

    So a worker on another machine, or a checkout that moved, needs no new deployment.
    """
    folder = root()
    os.chdir(folder)
    return {"directory": str(folder)}
