"""Children: proven ready, kept running, ended whatever happens."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from linekeeper.cli.supervisor import Child, ChildFailed, Supervisor, restart_delay

FOREVER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)
WITH_A_STRAY = (  # as Prefect's worker starts flow runs: in a session of their own
    "import subprocess, sys, time; s = subprocess.Popen([sys.executable, '-c',"
    "'import time; time.sleep(600)'], start_new_session=True);"
    "print('stray', s.pid, 'up', flush=True); time.sleep(600)"
)


def _child(name: str, code: str, **options: object) -> Child:
    return Child(
        name,
        (sys.executable, "-c", code),
        dict(os.environ),
        **{"ready_text": "up", "ready_seconds": 20.0, **options},  # type: ignore[arg-type]
    )


async def _until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _pids(folder: Path) -> list[int]:
    return [int(word) for word in (folder / "a.log").read_text().split() if word.isdigit()]


PID_FIRST = "import os; print(os.getpid(), flush=True); "


async def test_leaving_the_block_ends_the_children_and_their_output_is_kept(
    tmp_path: Path,
) -> None:
    async with Supervisor(tmp_path, lambda line: None) as supervisor:
        await supervisor.start(_child("a", PID_FIRST + FOREVER))
        (pid,) = _pids(tmp_path)
        assert _alive(pid)
    assert not _alive(pid)
    assert (tmp_path / "a.log").read_text().endswith("up\n")


async def test_a_child_that_ends_before_it_is_ready_says_why(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, lambda line: None) as supervisor:
        with pytest.raises(
            ChildFailed, match=r"a ended before .*exit code 3\): no such thing; see"
        ):
            await supervisor.start(_child("a", "print('no such thing'); raise SystemExit(3)"))


async def test_a_child_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, lambda line: None) as supervisor:
        with pytest.raises(ChildFailed, match="a is not ready after"):
            await supervisor.start(_child("a", "import time; time.sleep(600)", ready_seconds=0.3))


async def test_a_one_off_that_fails_is_an_error(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, lambda line: None) as supervisor:
        await supervisor.run(_child("a", "pass"))
        with pytest.raises(ChildFailed, match="a failed"):
            await supervisor.run(_child("a", "raise SystemExit('not today')"))


async def test_a_child_that_is_killed_is_started_again_and_that_is_said(tmp_path: Path) -> None:
    lines: list[str] = []
    async with Supervisor(tmp_path, lines.append) as supervisor:
        await supervisor.start(_child("a", PID_FIRST + FOREVER))
        os.kill(_pids(tmp_path)[0], signal.SIGKILL)
        await _until(lambda: len(_pids(tmp_path)) == 2)
    assert lines[0].startswith("a ended (killed by SIGKILL): starting it again in 1 s")
    assert lines[1] == "a was started again"
    assert not any(map(_alive, _pids(tmp_path)))


async def test_warnings_reach_the_terminal_once_all_is_up(tmp_path: Path) -> None:
    lines: list[str] = []
    code = (
        "import time\nprint('WARNING early\\nup', flush=True)\ntime.sleep(0.5)\n"
        "for n in range(9): print('INFO quiet\\n\\x1b[31mERROR number', n, flush=True)\n"
        "print('last', flush=True); time.sleep(600)"
    )
    async with Supervisor(tmp_path, lines.append) as supervisor:
        await supervisor.start(_child("a", code))
        supervisor.starting = False
        await _until(lambda: "last" in (tmp_path / "a.log").read_text())
        await _until(lambda: len(lines) == 6)
    assert lines[:5] == [f"a: ERROR number {n}" for n in range(5)]
    assert lines[5].startswith("a: … more in")


async def test_a_child_that_ignores_the_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.cli.supervisor.END_SECONDS", 0.3)
    async with Supervisor(tmp_path, lambda line: None) as supervisor:
        await supervisor.start(_child("a", PID_FIRST + STUBBORN))
    assert not any(map(_alive, _pids(tmp_path)))


async def test_what_a_child_started_in_a_session_of_its_own_ends_too(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, lambda line: None) as supervisor:
        await supervisor.start(_child("a", WITH_A_STRAY))
        (stray,) = _pids(tmp_path)
        assert _alive(stray)
    assert not _alive(stray)


async def test_no_child_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, sys
from pathlib import Path
from linekeeper.cli.supervisor import Child, Supervisor
async def main():
    async with Supervisor(Path({str(tmp_path)!r}), print) as supervisor:
        for name, code in (("a", {PID_FIRST + WITH_A_STRAY!r}), ("b", {STUBBORN!r})):
            await supervisor.start(Child(name, (sys.executable, "-c", code), dict(os.environ),
                                         ready_text="up"))
        print("running", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"running\n"
    family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(family) == 4  # the reaper, both children and the stray
    process.kill()
    await process.wait()
    await _until(lambda: not any(map(_alive, family)))


def test_the_wait_before_a_restart_doubles_to_a_minute() -> None:
    assert [restart_delay(deaths) for deaths in (1, 2, 3, 7, 8, 500)] == [1, 2, 4, 60, 60, 60]


async def test_a_child_whose_log_cannot_be_opened_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    pids = tmp_path / "pids"
    code = f"import os; open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); " + FOREVER
    async with Supervisor(tmp_path, said.append) as supervisor:
        await supervisor.start(_child("a", code))
        (tmp_path / "a.log").unlink()
        (tmp_path / "a.log").mkdir()
        os.kill(int(pids.read_text()), signal.SIGKILL)
        await _until(lambda: len(pids.read_text().split()) == 2)
        await _until(lambda: "a was started again" in said)
        (tmp_path / "a.log").rmdir()
    assert not any(map(_alive, map(int, pids.read_text().split())))
    assert [line for line in said if "a.log can't be written" in line] != []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
async def test_with_a_full_disk_children_go_on_and_all_of_them_are_ended(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.log").symlink_to("/dev/full")
    said: list[str] = []
    before = psutil.Process().children()
    async with Supervisor(tmp_path, said.append) as supervisor:
        for name in ("a", "b"):
            await supervisor.start(_child(name, "print('first', flush=True); " + FOREVER))
        pids = [supervisor.pid(name) for name in ("a", "b")]
    assert not any(pid and _alive(pid) for pid in pids)
    assert psutil.Process().children() == before, "the reaper has ended, too, and was waited for"
    assert [line.partition(":")[0] for line in said] == ["a", "b"]
    assert all("No space left" in line for line in said)
