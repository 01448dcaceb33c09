"""A port that opens and closes when a test says so."""

import socket
from collections.abc import Iterator

import pytest


class Door:
    """A port on loopback that opens and closes, as a customer's firewall lets it.

    It stays bound while it is closed, so that nobody else gets it.
    """

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", self.port))

    def open(self) -> None:
        self._socket.listen(16)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        self._socket.close()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture
def door() -> Iterator[Door]:
    """Closed; its port is ours."""
    one = Door()
    yield one
    one.leave()
