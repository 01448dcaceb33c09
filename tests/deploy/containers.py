"""Containers for the tests: podman, a Debian made here, and what `deploy/Dockerfile` builds on it.

Base images are made with debootstrap, for none is fetched. Containers use the machine's own
network; services that would meet at a port get an address of the loopback network each.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.conftest import run
from tests.e2e.conftest import ROOT

PODMAN = "/usr/bin/podman"
LIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=90000:90000")
DEBIAN = "localhost/linekeeper-test/debian"
SERVICES = "localhost/linekeeper-test/services"
PREVIOUS = "d514f21b^"
"""The commit before the newest change of tables that most of the parts read."""
PIP = ("/etc/pip.conf", "/etc/ssl/certs")
HERE = Path(__file__).parent / "images"
_WRAPPER = f"""#!/bin/sh
export PODMAN_IGNORE_CGROUPSV1_WARNING=1
exec {PODMAN} --runtime runc "$@"
"""


def missing(*more: str) -> str | None:
    """What is not installed of what these tests need; None where all is there."""
    names = ("podman", "runc", "debootstrap", *more)
    path = f"{Path(sys.executable).parent}:/usr/sbin:{os.environ['PATH']}"
    lacking = [name for name in names if not shutil.which(name, path=path)]
    if lacking:
        return f"not installed: {', '.join(lacking)}. As root on Debian `make soak` installs them"
    return None if os.getuid() == 0 else "podman is used as root here"


def wrapper(folder: Path) -> Path:
    """A `podman` that works here, for tools that call one."""
    path = folder / "podman"
    path.write_text(_WRAPPER)
    path.chmod(0o755)
    return path


async def podman(*words: str | Path) -> str:
    """Run `podman …`; what it said."""
    quiet = {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    return await run(PODMAN, "--runtime", "runc", *words, environment=quiet)


async def exists(image: str) -> bool:
    """Whether the image is there."""
    asking = await asyncio.create_subprocess_exec(
        *(PODMAN, "image", "exists", image), stderr=subprocess.DEVNULL
    )
    return await asking.wait() == 0


async def debian(folder: Path) -> str:
    """Debian with its Python: made once, and kept for the next time."""
    if not await exists(DEBIAN):
        more = "--include=python3,python3-venv,ca-certificates"
        root = folder / "debian"
        await run("debootstrap", "--variant=minbase", more, "trixie", root)
        tar = folder / "debian.tar"
        await run("tar", "-C", root, "-cf", tar, ".")
        await podman("import", tar, DEBIAN)
        shutil.rmtree(root)
        tar.unlink()
    return DEBIAN


async def build(tag: str, file: Path, context: Path, *options: str, base: str) -> str:
    """Build an image on `base`."""
    usual = ("--format=docker", "--network=host", f"--build-arg=BASE={base}", *LIMITS)
    await podman("build", *usual, *options, "-f", file, "-t", tag, context)
    return tag


async def linekeeper(
    wheels: Path, folder: Path, tag: str = "linekeeper", *, root: Path = ROOT
) -> str:
    """The image of `deploy/Dockerfile`, with what `.dockerignore` lets into it, and more beside."""
    context = folder / f"context-{tag}"
    shutil.copytree(wheels, context / "dist")
    shutil.copytree(root / "requirements", context / "requirements")
    shutil.copy(ROOT / ".dockerignore", context)
    (context / ".env").write_text("LINEKEEPER_ENCRYPTION_KEYS=secret")
    (context / ".linekeeper").mkdir()
    (context / ".linekeeper/encryption-keys").write_text("secret")
    name = f"localhost/linekeeper-test/{tag}"
    # Python's packages come as they come to this machine.
    own = [f"--volume={path}:{path}:ro" for path in PIP if Path(path).exists()]
    base = await debian(folder)
    return await build(name, ROOT / "deploy/Dockerfile", context, *own, base=base)


async def previous(folder: Path) -> str:
    """The image of the version before (`PREVIOUS`), from its own wheel and its own hashes."""
    checkout = folder / "previous"
    checkout.mkdir()
    tar = folder / "previous.tar"
    await run("git", "archive", "-o", tar, PREVIOUS)
    await run("tar", "-C", checkout, "-xf", tar)
    uv = Path(sys.executable).with_name("uv")
    await run(uv, "build", "-q", "--wheel", "-o", folder / "previous-dist", checkout)
    return await linekeeper(folder / "previous-dist", folder, "previous", root=checkout)


async def services(folder: Path) -> str:
    """PostgreSQL, Redis and nginx as Debian has them, in place of their public images."""
    base = await debian(folder)
    return await build(SERVICES, HERE / "services.Dockerfile", HERE, base=base)


async def systemd(folder: Path, linekeeper_image: str) -> str:
    """A Debian that systemd starts, with Linekeeper in `/opt`."""
    options = (f"--build-arg=LINEKEEPER={linekeeper_image}",)
    base = await debian(folder)
    tag = "localhost/linekeeper-test/systemd"
    return await build(tag, HERE / "systemd.Dockerfile", HERE, *options, base=base)
