"""The process of a flow run as our worker starts it: Prefect's own, which begins sooner.

What is imported stays, but Python looks through all of it for garbage again and again meanwhile:
without that a run takes two thirds of the processor time until its flow is loaded.
"""

from importlib import import_module
from runpy import run_module

from linekeeper.garbage import importing

IMPORTED = ("prefect.flow_engine", "linekeeper.runtime")
"""What every run needs, of whatever flow."""


def main() -> None:
    """Import what stays, then run the flow as `python -m prefect.engine` does."""
    with importing():
        for name in IMPORTED:
            import_module(name)
    run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
