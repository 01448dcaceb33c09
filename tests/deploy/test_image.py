"""The image, built for real: what is in it, what is not, and that it runs as it should be run."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.deploy import containers
from tests.deploy.containers import LIMITS, podman
from tests.e2e.conftest import free_ports, until

LACKING = containers.missing()
pytestmark = [pytest.mark.soak, pytest.mark.skipif(bool(LACKING), reason=LACKING or "")]

HARDENED = (
    *("--network=host", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"),
    *("--security-opt=no-new-privileges", *LIMITS),
)
MOST_MB = 400
"""More than its base, of which Prefect and numpy are the larger part."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("image")


@pytest.fixture(scope="module")
async def image(folder: Path) -> str:
    await containers.linekeeper(folder)
    return containers.IMAGE


@pytest.fixture
async def receiver(image: str) -> AsyncIterator[tuple[str, str]]:
    """A receiver on SQLite in its volume: the name of its container, and its address."""
    port = free_ports("receiver")["receiver"]
    setting = f"--env=LINEKEEPER_RECEIVER_PORT={port}"
    script = "linekeeper migrate && exec linekeeper receiver"
    name = (await podman("run", "-d", *HARDENED, setting, image, "sh", "-c", script)).strip()
    try:
        yield name, f"http://127.0.0.1:{port}"
    finally:
        await podman("rm", "-f", "-t", "10", "-v", name)


async def test_into_the_image_go_the_wheel_and_the_hashes_and_nothing_else(
    image: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY . /context\n")
    seen = await containers.build(
        "localhost/linekeeper-test/context",
        tmp_path / "Dockerfile",
        folder / "checkout",
        base=containers.DEBIAN,
    )
    said = await podman("run", "--rm", *HARDENED, seen, "find", "/context", "-type", "f")
    names = sorted(line.removeprefix("/context/") for line in said.split())
    assert [name.partition("-")[0] for name in names] == [
        "dist/linekeeper",
        "requirements/redis.txt",
    ]


async def test_it_has_no_compiler_no_tests_no_installer_and_no_secret(image: str) -> None:
    script = """
    cd /
    for tool in cc gcc g++ make git pip; do command -v $tool && exit 1; done
    find / -xdev '(' -name .env -o -name .git -o -name encryption-keys ')' 2>/dev/null || true
    python3 - <<'END'
    import importlib.util, os
    assert os.getuid() == 10001
    for name in ("tests", "sandbox", "pip"):
        assert importlib.util.find_spec(name) is None, name
    END
    """
    plain = "\n".join(line.strip() for line in script.splitlines())
    plain = plain.replace("assert importlib", "    assert importlib")
    assert await podman("run", "--rm", *HARDENED, image, "sh", "-ec", plain) == ""
    sizes = [
        json.loads(await podman("image", "inspect", name))[0]["Size"] / 1e6
        for name in (image, containers.DEBIAN)
    ]
    assert sizes[0] - sizes[1] < MOST_MB


async def test_it_runs_read_only_as_nobody_in_particular_and_says_that_it_is_well(
    receiver: tuple[str, str],
) -> None:
    name, url = receiver

    async def ready() -> bool:
        async with httpx.AsyncClient() as client:
            with contextlib.suppress(httpx.HTTPError):
                return (await client.get(f"{url}/readyz")).status_code == 200
        return False

    await until(ready, seconds=120, what="the receiver in its container")
    await podman("healthcheck", "run", name)
    assert (await podman("exec", name, "stat", "-c", "%u %a", "/data/linekeeper.db")).split() == [
        "10001",
        "600",
    ]
    await podman("exec", name, "sh", "-c", "! touch /opt/linekeeper/x 2>/dev/null")
    # It hangs: within a minute the health check says so.
    await podman("kill", "--signal=STOP", name)
    await podman("exec", name, "touch", "-d", "2 minutes ago", "/tmp/alive")
    with pytest.raises(AssertionError, match="unhealthy"):
        await podman("healthcheck", "run", name)
    await podman("kill", "--signal=CONT", name)
