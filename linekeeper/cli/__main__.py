"""`python -m linekeeper.cli`, the same as `linekeeper`."""

from linekeeper.cli import main

main()
