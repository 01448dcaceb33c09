"""What production code logs, as far as it can be told apart: every line once, without its time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from linekeeper.logs import WAY, JsonLines


class Logs(logging.Handler):
    """Keeps what is logged by us at any level, and by libraries from warnings on."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: set[str] = set()
        self.wrong: list[str] = []
        """What could not be written."""
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        record.created = 0.0
        try:
            self.lines.add(self.format(record))
        except Exception as error:
            self.wrong.append(f"{record.name} {record.msg!r}: {type(error).__name__}: {error}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep them for the block, in place of writing them."""
        before = logging.root.manager.disable
        loggers = {
            logging.root: logging.WARNING, logging.getLogger("linekeeper"): logging.DEBUG,
            logging.getLogger("prefect"): logging.WARNING, WAY: logging.DEBUG,
        }  # fmt: skip
        kept = [(each, each.handlers, each.level, each.propagate) for each in loggers]
        for each, level in loggers.items():
            each.handlers, each.propagate = ([] if each is WAY else [self]), each is WAY
            each.setLevel(level)
        logging.disable(logging.NOTSET)
        try:
            yield
        finally:
            logging.disable(before)
            for each, handlers, level, propagate in kept:
                each.handlers, each.propagate = handlers, propagate
                each.setLevel(level)
