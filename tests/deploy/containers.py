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

from tests.deploy.conftest import blocks, checkout, furnished, paste, run

PODMAN = "/usr/bin/podman"
LIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=90000:90000")
BUILD = ("--format=docker", "--network=host", *LIMITS)
IMAGE = "localhost/linekeeper"
"""What docs/deploy.md calls it."""
DEBIAN = "localhost/linekeeper-test/debian"
SERVICES = "localhost/linekeeper-test/services"
PREVIOUS = "d514f21b^"
"""The commit before the newest change of tables that most of the parts read."""
PIP = ("/etc/pip.conf", "/etc/ssl/certs")
HERE = Path(__file__).parent / "images"
_WRAPPER = """#!/bin/sh
export PODMAN_IGNORE_CGROUPSV1_WARNING=1
if [ "$1" = build ]; then shift; set -- build {options} "$@"; fi
exec {podman} --runtime runc "$@"
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
    """A folder with a `podman` that works here, for what is typed and for tools that call one."""
    # No base image is fetched, and Python's packages come as they come to this machine.
    own = [f"--volume={path}:{path}:ro" for path in PIP if Path(path).exists()]
    options = " ".join((*BUILD, f"--build-arg=BASE={DEBIAN}", *own))
    path = folder / "bin/podman"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_WRAPPER.format(options=options, podman=PODMAN))
    path.chmod(0o755)
    return path.parent


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
    chosen = (*BUILD, f"--build-arg=BASE={base}", *options)
    await podman("build", *chosen, "-f", file, "-t", tag, context)
    return tag


async def linekeeper(folder: Path) -> Path:
    """The image, built as docs/deploy.md says, in a checkout; the checkout."""
    return await _typed(await checkout(folder / "checkout"), folder)


async def previous(folder: Path) -> Path:
    """The image of the version before (`PREVIOUS`), from its own checkout."""
    there = folder / "previous"
    there.mkdir()
    tar = folder / "previous.tar"
    await run("git", "archive", "-o", tar, PREVIOUS)
    await run("tar", "-C", there, "-xf", tar)
    tar.unlink()
    return await _typed(furnished(there), folder)


async def _typed(there: Path, folder: Path) -> Path:
    await debian(folder)
    [block] = blocks("As an image")
    await paste(block, there, os.environ, wrapper(folder))
    return there


async def services(folder: Path) -> str:
    """PostgreSQL, Redis and nginx as Debian has them, in place of their public images."""
    base = await debian(folder)
    return await build(SERVICES, HERE / "services.Dockerfile", HERE, base=base)


async def systemd(folder: Path) -> str:
    """A Debian that systemd starts, with Linekeeper in `/opt`."""
    await linekeeper(folder)
    options = (f"--build-arg=LINEKEEPER={IMAGE}",)
    base = await debian(folder)
    tag = "localhost/linekeeper-test/systemd"
    return await build(tag, HERE / "systemd.Dockerfile", HERE, *options, base=base)
