"""The units under a real systemd, in a container: started, killed, hung, and held within bounds."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy import containers
from tests.deploy.conftest import typed
from tests.deploy.containers import LIMITS, podman
from tests.e2e.conftest import ROOT, until

LACKING = containers.missing()
pytestmark = [pytest.mark.soak, pytest.mark.skipif(bool(LACKING), reason=LACKING or "")]

UNITS = ("linekeeper-prefect", "linekeeper-receiver", "linekeeper-consumer", "linekeeper-worker")
OLD_CGROUPS = "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
"""Where the kernel has the older control groups, systemd starts only if told so."""
MOST_EXPOSED = 3.0
"""Of 10, as `systemd-analyze security` counts."""


@dataclass
class Host:
    """A container with systemd, on the machine's network."""

    container: str
    address: str

    async def types(self, line: str) -> str:
        """Type a line in root's shell, beside the folder `deploy`."""
        return await podman("exec", "-w", "/root", self.container, "bash", "-c", line)

    async def shows(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return (await self.types(f"systemctl show -p {what} --value {unit}")).strip()

    async def active(self, *units: str, seconds: float = 300) -> None:
        """Wait until all of `units` are."""

        async def all_are() -> bool:
            states = [await self.shows(unit, "ActiveState") for unit in units]
            return set(states) == {"active"}

        try:
            await until(all_are, seconds=seconds)
        except TimeoutError:
            pytest.fail(await self.types("journalctl --no-pager -n 60 -u 'linekeeper-*'"))


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    image = await containers.systemd(tmp_path)
    options = ("--privileged", "--systemd=always", "--network=host", *LIMITS)
    name = await podman("run", "-d", *options, f"--env=SYSTEMD_PROC_CMDLINE={OLD_CGROUPS}", image)
    one = Host(name.strip(), f"127.85.{secrets.randbelow(200) + 20}")
    try:
        await podman("cp", ROOT / "deploy", f"{one.container}:/root/deploy")

        async def booted() -> bool:
            with contextlib.suppress(AssertionError):  # degraded: a container loads no modules
                said = await one.types("systemctl is-system-running || true")
                return said.strip() in ("running", "degraded")
            return False

        await until(booted, seconds=120, what="systemd")
        yield one
    finally:
        await podman("rm", "-f", "-t", "10", "-v", one.container)


async def test_the_units_start_what_dies_anew_and_hold_it_within_bounds(host: Host) -> None:
    lines, _ = _steps()
    begin = lines.index("systemctl daemon-reload")
    for line in lines[:begin]:
        await host.types(line)
    await _addresses(host)
    await host.types("systemd-analyze verify /etc/systemd/system/linekeeper-*.service")
    for line in lines[begin:]:
        await host.types(line)
    await host.active(*UNITS, "linekeeper-setup", "linekeeper-backup.timer")
    await host.types(f"{_fetch(host, 'readyz')} | grep -q ready")

    for unit in UNITS:
        pid = await host.shows(unit, "MainPID")
        status = await host.types(f"cat /proc/{pid}/status; stat -c uid=%U /proc/{pid}")
        for wanted in (
            "NoNewPrivs:\t1",
            "CapEff:\t0000000000000000",
            "Seccomp:\t2",
            "Umask:\t0077",
        ):
            assert wanted in status, (unit, wanted)
        assert "uid=linekeeper" in status
        for place in ("/opt/linekeeper", "/etc", "/usr"):
            await host.types(f"! nsenter -t {pid} -m touch {place}/x 2>/dev/null")
        exposed = await host.types(f"systemd-analyze security --no-pager {unit} | tail -1")
        assert float(exposed.split(": ")[1].split()[0]) <= MOST_EXPOSED, exposed
        # It crashes, and is started anew.
        await host.types(f"kill -9 {pid}")

        async def again(unit: str = unit, pid: str = pid) -> bool:
            return await host.shows(unit, "MainPID") not in ("0", pid)

        await until(again, seconds=60, what=f"{unit} to be started again")
    await host.active(*UNITS)
    open_to_others = "find /var/lib/linekeeper /etc/linekeeper/secrets -perm /o=rwx ! -type l"
    assert await host.types(open_to_others) == ""

    # A consumer that hangs: the watchdog ends it.
    pid = await host.shows("linekeeper-consumer", "MainPID")
    await host.types(f"kill -STOP {pid}")

    async def ended() -> bool:
        return await host.shows("linekeeper-consumer", "MainPID") not in ("0", pid)

    await until(ended, seconds=180, what="the watchdog")
    assert "watchdog" in await host.types("journalctl --no-pager -u linekeeper-consumer")
    await host.active("linekeeper-consumer")

    await host.types("systemctl start linekeeper-backup.service")
    assert (await host.types("stat -c '%U %a' /var/lib/linekeeper/backups/*")).strip() == (
        "linekeeper 600"
    )
    # Ended in good order, within its time.
    await host.types(f"systemctl stop {' '.join(UNITS)}")
    for unit in UNITS:
        assert await host.shows(unit, "Result") == "success", unit


async def test_everything_on_one_machine_is_one_unit(host: Host) -> None:
    lines, alone = _steps()
    for line in lines[: lines.index("systemctl daemon-reload")]:
        await host.types(line)
    await _addresses(host)
    await host.types(alone[0])
    # The container is on this machine's own network, where 127.0.0.1 is others' too.
    where = f"LINEKEEPER_RECEIVER_HOST={host.address}.11"
    await host.types(f"echo {where} >> /etc/linekeeper/environment")
    for line in alone[1:]:
        await host.types(line)

    async def ready() -> bool:
        return "ready in" in await host.types("journalctl --no-pager -u linekeeper-up")

    await until(ready, seconds=300, what="linekeeper up")
    await host.types(f"{_fetch(host, 'readyz')} | grep -q ready")
    await host.types("systemctl stop linekeeper-up")
    assert await host.shows("linekeeper-up", "Result") == "success"


def _steps() -> tuple[list[str], list[str]]:
    """What the page has one type: for a unit for each part, and for one unit alone."""
    lines = typed("With systemd", {})
    alone = next(n for n, line in enumerate(lines) if line.startswith("sed -i '/^LINEKEEPER"))
    return lines[:alone], lines[alone:]


async def _addresses(host: Host) -> None:
    """Everything on addresses of this machine, and SQLite in place of PostgreSQL and Redis."""
    prefect, receiver = f"{host.address}.10", f"{host.address}.11"
    state = "sqlite+aiosqlite:////var/lib/linekeeper"
    for line in (
        "sed -i /redis/Id /etc/linekeeper/prefect-environment",
        f"sed -i s/10.0.0.10/{prefect}/ /etc/linekeeper/environment"
        " /etc/linekeeper/prefect-environment",
        f"sed -i s/10.0.0.11/{receiver}/ /etc/linekeeper/environment",
        f"echo LINEKEEPER_PREFECT_HOST={prefect} >> /etc/linekeeper/environment",
        f"echo {state}/linekeeper.db > /etc/linekeeper/secrets/linekeeper_database_url",
        f"sed -i 's#postgresql.*prefect#{state}/prefect.db#'"
        " /etc/linekeeper/secrets/prefect-server.toml",
    ):
        await host.types(line)


def _fetch(host: Host, path: str) -> str:
    url = f"http://{host.address}.11:8642/{path}"
    return f"""python3 -c "import urllib.request as u; print(u.urlopen('{url}').read())" """
