"""The universes of `make test` begin while one process imports all tests.

The machine's other processors have nothing to do then, and no worker waits for them later.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.repetitions import IN_TEST
from tests.shared_folder import FOLDER

ROOT = Path(__file__).parents[2]
TEST = Path(__file__).with_name("test_universes.py")
SAID = FOLDER / "universes"
"""What they said; beside it what they said of errors, and at their end the exit code."""
ERRORS, CODE = SAID.with_suffix(".errors"), SAID.with_suffix(".code")
COMMAND = [sys.executable, "-m", "tests.simulation", "--chosen"]
_ALONE = '"$@" >"$SAID" 2>"$ERRORS"; echo $? >"$CODE.new"; mv "$CODE.new" "$CODE"'
_begun: list[int] = []
PATIENCE_SECONDS = 1500.0
"""They take a minute and a half of CPU; less than what pytest gives their test."""


def begin(config: pytest.Config) -> None:
    """Let them begin, where their test is asked for and will be among those that run."""
    if not is_asked_for(config.args, config.option.keyword, config.option.markexpr):
        return
    SAID.touch()
    # Forked workers would take a `Popen` of this process for one of their own.
    places = {"SAID": str(SAID), "ERRORS": str(ERRORS), "CODE": str(CODE)}
    shell = ["sh", "-c", f'cd "{ROOT}"; {_ALONE}', "sh", *COMMAND]
    _begun.append(os.posix_spawn("/bin/sh", shell, {**os.environ, **places}, setpgroup=0))


def is_asked_for(arguments: list[str], keyword: str, marks: str) -> bool:
    """Whether their test is sure to run: by its file, or a folder above it."""
    asked = [Path(each).resolve() for each in arguments]
    return not keyword and marks in ("", "not soak", IN_TEST) and any(
        each == TEST or each in TEST.parents for each in asked
    )  # fmt: skip


def end() -> None:
    """End them, if they still live."""
    while _begun:
        group = _begun.pop()
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        os.waitpid(group, 0)


def universes(*, patience: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
    """What they said: those that have begun, or else that begin now.

    Raises `TimeoutError` with the last that was said, where they don't end in `patience` seconds.
    """
    if not SAID.exists():
        return subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False)
    until = time.monotonic() + patience
    while not CODE.exists():
        if time.monotonic() > until:
            last = (SAID.read_text() + ERRORS.read_text()).splitlines()[-5:]
            said = "\n".join(last) or "They have said nothing."
            raise TimeoutError(f"The universes have not ended after {patience:g} s. {said}")
        time.sleep(0.2)
    code, said, errors = CODE.read_text(), SAID.read_text(), ERRORS.read_text()
    return subprocess.CompletedProcess(COMMAND, int(code), said, errors)
