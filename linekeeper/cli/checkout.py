"""Where the project is: what flow runs start from, and the list of deployments."""

import os
from pathlib import Path

import linekeeper


def root() -> Path:
    """The folder that holds `flows/` and `prefect.yaml`: this installation's own."""
    return Path(linekeeper.__file__).resolve().parents[1]


def deployments_file() -> Path:
    """`prefect.yaml`: in a checkout beside the flows, in the wheel inside the package."""
    return Path(linekeeper.__file__).with_name("prefect.yaml").resolve()


def enter() -> dict[str, str]:
    """The pull step of every deployment: a run works in the folder its worker is installed from.

    So a worker on another machine, or a checkout that moved, needs no new deployment.
    """
    folder = root()
    os.chdir(folder)
    return {"directory": str(folder)}
