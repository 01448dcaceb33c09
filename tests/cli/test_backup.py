"""`linekeeper backup` and `restore`, as people type them."""

import shutil
from pathlib import Path

import pytest

from tests.cli.commands import CommandLine


@pytest.fixture
def backup(command: CommandLine, tmp_path: Path) -> Path:
    """A backup of a database with one key in it, taken while no Prefect runs."""
    command.set(PREFECT_PORT="1")
    command.migrated()
    assert command("key", "add", "product").code == 0
    said = command("backup", str(tmp_path / "b"))
    assert (said.code, said.err) == (0, "")
    assert "does not answer" in said.out
    assert "fingerprint" in said.out
    return tmp_path / "b"


def test_a_destroyed_home_comes_back_with_file_and_keys(
    backup: Path, command: CommandLine, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    kept = tmp_path / "kept-keys"
    shutil.copy(home / "encryption-keys", kept)
    shutil.rmtree(home)
    home.mkdir()
    shutil.copy(kept, home / "encryption-keys")
    said = command("restore", str(backup))
    assert (said.code, said.err) == (0, "")
    assert "restored" in said.out
    assert "product" in command("key", "list").out
    again = command("restore", str(backup))
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert "not empty" in again.err


def test_who_was_erased_since_the_backup_comes_back_and_both_commands_say_so(
    command: CommandLine, tmp_path: Path
) -> None:
    command.migrated()
    command("customer", "import", "-", stdin="name,contacts\nAcme,jo@acme.example\n")
    command("key", "add", "product")
    command("backup", str(tmp_path / "b"))
    command("key", "revoke", "product")
    erased = command("customer", "erase", "Acme", "--confirm", "Acme")
    assert "backups made before this keep the name" in erased.out
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(tmp_path / "home" / "encryption-keys", new / "encryption-keys")
    command.set(HOME=str(new))
    said = command("restore", str(tmp_path / "b"))
    assert "erase them again" in said.out
    assert "revoke them again" in said.out
    assert command("customer", "erase", "Acme", "--confirm", "Acme").code == 0
    assert command("key", "revoke", "product").code == 0


def test_without_the_keys_nothing_is_made_and_one_line_says_which(
    backup: Path, command: CommandLine, tmp_path: Path
) -> None:
    command.set(HOME=str(tmp_path / "fresh"))
    said = command("restore", str(backup))
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "fingerprint" in said.err
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize("problem", ["half", "missing", "other key", "nowhere to write"])
def test_what_cannot_be_done_is_one_clear_line(
    backup: Path, command: CommandLine, tmp_path: Path, problem: str
) -> None:
    if problem == "nowhere to write":
        said = command("backup", str(tmp_path / "no" / "folder" / "b"))
    else:
        from cryptography.fernet import Fernet

        keys = (tmp_path / "home" / "encryption-keys").read_text().strip()
        command.set(HOME=str(tmp_path / "fresh"), ENCRYPTION_KEYS=keys)
        if problem == "half":
            backup.write_bytes(backup.read_bytes()[: backup.stat().st_size // 2])
        elif problem == "missing":
            backup.unlink()
        else:
            command.set(ENCRYPTION_KEYS=Fernet.generate_key().decode())
        said = command("restore", str(backup))
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1), said
    expected = {
        "half": "not whole",
        "missing": "no such file",
        "other key": "fingerprint",
        "nowhere to write": "can't be written",
    }
    assert expected[problem] in said.err
