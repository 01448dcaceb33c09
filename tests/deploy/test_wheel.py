"""The wheel in an empty environment, folder and home: `linekeeper up` outside a checkout."""

import os
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import run, typed
from tests.e2e.conftest import PARTS, free_ports, started

pytestmark = [pytest.mark.soak, pytest.mark.e2e]


async def test_the_wheel_with_its_sandbox_starts_outside_a_checkout(
    wheels: Path, tmp_path: Path
) -> None:
    venv, here, home = (tmp_path / name for name in ("venv", "here", "home"))
    here.mkdir()
    home.mkdir()
    places = {"/opt/linekeeper": venv, "python3": sys.executable, "dist": wheels}
    *installing, up = typed("From the wheel", places)
    assert installing.pop(0) == "make wheel"  # what `wheels` did
    for line in installing:
        await run("bash", "-c", line)
    assert up == f"{venv}/bin/linekeeper up"
    assert not list(venv.glob("lib/*/site-packages/tests"))

    command = (str(venv / "bin/linekeeper"),)
    options = ("--scenario", "quiet", "--no-schedules", "--connections", "6")
    bare = {"PATH": os.environ["PATH"], "HOME": str(home)}
    ports = free_ports(*PARTS)
    bare |= {"LINEKEEPER_SANDBOX_PORT": str(ports["sandbox"])}
    async with started(
        here / ".linekeeper", ports, *options, command=command, cwd=here, bare=bare
    ) as house:
        assert any("Slack page" in line for line in house.said)  # the sandbox, as nothing is named
        for _ in range(2):  # the first adopts what the sandbox lists
            run_ = await house.trigger("health-sweep")
            assert run_.state is not None
            assert run_.state.is_completed(), run_.state.message
        code, said = await house.linekeeper("status", "--json")
        assert code == 0, said
        assert '"healthy": 6' in said
        code, said = await house.linekeeper("doctor")
        assert code == 0, said
        async with house.prefect() as client:
            sweep = await client.read_deployment_by_name("health-sweep/health-sweep")
        assert sweep.version == (await run(*command, "--version")).split()[-1]
    assert house.process.returncode == 0, house.said
    assert [entry.name for entry in here.iterdir()] == [".linekeeper"]
