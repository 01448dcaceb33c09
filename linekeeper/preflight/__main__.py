"""`python -m linekeeper.preflight`, and what the one-file bundle runs; standard library only."""

import argparse
import asyncio
import sys

from linekeeper.preflight.order import DEFAULT_CONTROL, TIMEOUT_SECONDS, OrderError, take_order
from linekeeper.preflight.run import as_json, as_text, preflight
from linekeeper.preflight.verdict import VANTAGES


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 nothing found, 1 a finding, 2 bad input."""
    parser = argparse.ArgumentParser(prog="preflight", description="Network checks for Makini.")
    parser.add_argument("target", nargs="+", help="host:port or URL")
    parser.add_argument("--vantage", choices=VANTAGES, default="inside")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, metavar="SECONDS")
    parser.add_argument("--ca-file", metavar="FILE", help="your own certificate authority, PEM")
    parser.add_argument(
        "--control",
        default=DEFAULT_CONTROL,
        metavar="HOST:PORT",
        help=(
            "from outside: an address that is open, to verify that this machine reaches the "
            "internet"
        ),
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    try:
        order = take_order(given.target, given.vantage, given.timeout, given.ca_file, given.control)
    except OrderError as error:
        parser.error(str(error))
    report = asyncio.run(preflight(order))
    sys.stdout.write((as_json(report) if given.json else as_text(report)) + "\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
