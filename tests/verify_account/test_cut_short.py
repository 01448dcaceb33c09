"""A recording that a full disk or a power cut tore is gone on with, and its salt is one."""

from pathlib import Path

import pytest

from linekeeper.verify_account.recording import Recording, Redactor
from tests.verify_account.test_verify_account import Open


@pytest.mark.parametrize("kept", [0.4, 1.6])
async def test_a_step_that_was_recorded_in_part_is_asked_again(
    open_account: Open, kept: float
) -> None:
    account = await open_account()
    whole = await account.verify()
    path = Path(whole.recording)
    lines = path.read_bytes().splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if b'"list/small"' in line)
    cut = lines[first + int(kept)]
    path.write_bytes(b"".join(lines[: first + int(kept)]) + cut[: len(cut) // 2])
    again = await account.verify()
    assert again.complete
    assert again.answers == whole.answers
    assert path.read_bytes().count(b'"list/small"') == 2
    with path.open("ab") as file:
        file.write(b'{"st')  # of which step nobody knows: the last one is asked for again
    assert (await account.verify()).answers == whole.answers


def test_a_salt_that_was_not_written_is_made(tmp_path: Path) -> None:
    (tmp_path / "default.salt").write_bytes(b"")
    recording = Recording(tmp_path, "default")
    assert len(recording.salt) == 32
    nobody = Redactor(b"").pseudonym("Acme")
    assert Redactor(recording.salt).pseudonym("Acme") != nobody
    assert Recording(tmp_path, "default").salt == recording.salt
