"""What the environment says that nobody reads: `doctor` names it."""

from pathlib import Path

from linekeeper.doctor import Level
from linekeeper.doctor.environment import examine_environment


def test_a_misspelt_variable_is_named_with_the_one_it_resembles() -> None:
    environment = {
        "LINEKEEPER_PUBLIC_ULR": "https://hunter2.example",
        "linekeeper_home": "/srv",
        "LINEKEEPER_HOME": "/srv",
        "LINEKEEPER_KEY": "x",
        "LINEKEEPER_SECRETS_DIR": "/run/secrets",
        "LINEKEEPER_QQQQ": "of somebody else",
        "PATH": "/bin",
    }
    [found] = examine_environment(environment)
    assert found.level is Level.warn
    assert "LINEKEEPER_PUBLIC_ULR" in found.text
    assert "LINEKEEPER_PUBLIC_URL" in found.fix
    assert "hunter2" not in found.text + found.fix


def test_a_folder_of_templates_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    assert examine_environment({"LINEKEEPER_TEMPLATES": str(tmp_path)}) == []
    assert examine_environment({"LINEKEEPER_TEMPLATES": ""}) == []
    [found] = examine_environment({"LINEKEEPER_TEMPLATES": str(tmp_path / "none")})
    assert found.level is Level.wrong
    assert str(tmp_path / "none") in found.text
