"""Machines on this one: a network namespace each, joined by a bridge.

Where namespaces can't be made (no root, no `ip`) a machine is an address of the loopback network
with processes of its own; `Network.kind` says which it was.
"""

import asyncio
import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READY_SECONDS = 300


@dataclass
class Machine:
    """One machine: its address, its folder, and what runs there."""

    name: str
    address: str
    folder: Path
    namespace: str | None
    running: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(
        self,
        command: str,
        environment: Mapping[str, str] | None = None,
        *,
        ready: str = "",
        user: str | None = None,
    ) -> None:
        """Start `command`; returns once it has said `ready` (at once without)."""
        log = self.folder / "log"
        begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self._words(command, user),
                env=self._environment(environment),
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.running.append(process)
        async with asyncio.timeout(READY_SECONDS):
            while ready.encode() not in log.read_bytes()[begins:]:
                assert process.returncode is None, f"{self.name}: {log.read_text()[-4000:]}"
                await asyncio.sleep(0.1)

    async def run(
        self, command: str, environment: Mapping[str, str] | None = None, *, user: str | None = None
    ) -> str:
        """Run `command` to its end; returns what it said."""
        process = await asyncio.create_subprocess_exec(
            *self._words(command, user),
            env=self._environment(environment),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, f"{self.name}: {command}: {said.decode()}"
        return said.decode()

    async def die(self) -> None:
        """`kill -9` of everything that runs there, children too, as when the power goes."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.gather(*(process.wait() for process in self.running))
        self.running.clear()

    async def stop(self) -> None:
        """End what runs there in good order."""
        for process in reversed(self.running):
            if process.returncode is None:
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 20)
        await self.die()

    def processes(self) -> list[psutil.Process]:
        """What runs there: what was started, and the children."""
        found: list[psutil.Process] = []
        for process in self.running:
            with contextlib.suppress(psutil.NoSuchProcess):
                one = psutil.Process(process.pid)
                found += [one, *one.children(recursive=True)]
        return found

    def works_on(self, run_id: object) -> bool:
        """Whether a flow run is executed there."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run_id):
                    return True
        return False

    def _words(self, command: str, user: str | None) -> list[str]:
        words = shlex.split(command)
        if user is not None and os.getuid() == 0:
            words = [
                *("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"),
                *words,
            ]
        return ["ip", "netns", "exec", self.namespace, *words] if self.namespace else words

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        home = str(self.folder)
        own = {"PATH": PATH, "HOME": home, "LINEKEEPER_HOME": home, "PREFECT_HOME": f"{home}/p"}
        return {
            **own,
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "DO_NOT_TRACK": "1",
            **(more or {}),
        }


@dataclass
class Network:
    """Machines that reach each other, and this process (`here`), by their addresses."""

    kind: str
    prefix: str
    folder: Path
    bridge: str | None
    machines: dict[str, Machine] = field(default_factory=dict)

    @property
    def here(self) -> str:
        """The address under which the machines reach this process."""
        return f"{self.prefix}.1"

    def machine(self, name: str) -> Machine:
        """A new machine on the network."""
        number = len(self.machines) + 11
        address = f"{self.prefix}.{number}"
        folder = self.folder / name
        folder.mkdir()
        namespace = None
        if self.bridge is not None:
            namespace, link = f"{self.bridge}-{number}", f"{self.bridge}v{number}"
            _ip(f"netns add {namespace}")
            _ip(f"link add {link} type veth peer name eth0 netns {namespace}")
            _ip(f"link set {link} master {self.bridge} up")
            _ip(f"-n {namespace} addr add {address}/24 dev eth0")
            _ip(f"-n {namespace} link set eth0 up")
            _ip(f"-n {namespace} link set lo up")
        self.machines[name] = Machine(name, address, folder, namespace)
        return self.machines[name]


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """A network without machines; what is on it at the end is ended, and all of it removed."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-net-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        number = secrets.randbelow(200) + 20
        with _bridge(f"lk{number}", f"10.83.{number}.1/24") as bridge:
            if bridge:
                net = Network("network namespaces", f"10.83.{number}", folder, bridge)
            else:
                net = Network("processes on loopback addresses", f"127.83.{number}", folder, None)
            try:
                yield net
            finally:
                for machine in reversed(list(net.machines.values())):
                    await machine.stop()


@contextmanager
def _bridge(name: str, address: str) -> Iterator[str | None]:
    """A bridge to which namespaces are joined; None where that isn't possible."""
    made = os.getuid() == 0 and shutil.which("ip", path=PATH) is not None
    try:
        if made:
            _ip(f"link add {name} type bridge")
            _ip(f"addr add {address} dev {name}")
            _ip(f"link set {name} up")
            _ip(f"netns add {name}-probe")
    except subprocess.CalledProcessError:
        made = False
    try:
        yield name if made else None
    finally:
        if made:
            spaces = subprocess.run(["ip", "netns"], capture_output=True, check=False).stdout
            for one in spaces.decode().split():
                if one.startswith(f"{name}-"):
                    _ip(f"netns del {one}")
        with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
            _ip(f"link del {name}")


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)
