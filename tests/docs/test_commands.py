"""Every command in the docs exists with the options shown, and is run: here, or by a test named."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from linekeeper.cli import COMMANDS, app
from linekeeper.settings import Settings
from tests.cli.commands import CommandLine

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = {"sh", "bash", "shell"}
ELSEWHERE = {
    "make up": "tests/e2e/test_newcomer.py",
    "make test": ".ci/run",
    "make simulate": "tests/simulation/test_universes.py",
    "linekeeper receiver": "tests/receiver/test_workers.py",
    "linekeeper consumer": "tests/inbox/process/test_kills.py",
    "linekeeper sandbox": "tests/e2e/test_newcomer.py",
    "linekeeper canary": "tests/canary/test_canary.py",
    "python3 canary.py": "tests/canary/test_canary.py",
    "linekeeper tokens": "tests/cli/test_tokens.py",
    "linekeeper verify-account": "tests/cli/test_verify_account.py",
    "linekeeper deploy": "tests/cli/test_deploy.py",
    "prefect deploy": "tests/cli/test_deploy.py",
    "prefect block register": "tests/cli/test_deploy.py",
    "prefect worker start": "tests/cli/test_parts.py",
    "python docs/samples/product.py": "tests/e2e/test_reconnect.py",
    "python docs/samples/webhook_receiver.py": "tests/e2e/test_webhooks.py",
    "curl": "tests/docs/test_webhook_example.py",
}
"""What stays in the foreground, or needs a Prefect, a Makini or a receiver, and who runs it."""
SHELL_WORDS = {"export", "mkdir", "cp", "echo"}
OTHERS = {"URL", "KEY", "TEMPLATES"}
"""What docs/product.md's samples call the address and the key they are given; and a setting that
is read where it is needed."""
PLACEHOLDER = re.compile(r"[<>…]|\b(FILE|NAME|KEY|TARGET|DATE|HOST)\b")


def commands(page: Path) -> Iterator[list[str]]:
    """Every command line of a page's shell blocks, as its words."""
    for token in MarkdownIt().parse(page.read_text()):
        kind = token.info.split(" ")[0] if token.type == "fence" else ""
        if kind in SHELL or kind == "console":
            lines = token.content.replace("\\\n", " ").splitlines()
            if kind == "console":  # what is typed comes after the prompt
                lines = [line[2:] for line in lines if line.startswith("$ ")]
            for line in lines:
                for part in line.split("&&"):
                    words = shlex.split(part, comments=True)
                    if words:
                        yield words


def inline(page: Path) -> Iterator[list[str]]:
    """`linekeeper …` in the running text, where it is a whole command."""
    for token in MarkdownIt().parse(page.read_text()):
        for child in token.children or []:
            if child.type == "code_inline" and child.content.startswith("linekeeper "):
                yield shlex.split(child.content)


def ours(words: list[str]) -> list[str] | None:
    """What follows `linekeeper`, if that is what is called."""
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        words = words[1:]
    name = words[0].removeprefix(".venv/bin/") if words else ""
    return words[1:] if name == "linekeeper" else None


def parse(arguments: list[str]) -> None:
    """Read a command line as typer does, without running it; raises what a user would be told."""
    import typer

    command = typer.main.get_command(app)
    context = command.make_context("linekeeper", list(arguments))
    while hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(command.name or "", rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one_that_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for words in commands(page):
        if (arguments := ours(words)) is not None:
            parse(arguments)
        elif words[0] == "make":
            assert set(words[1:]) - {one for one in words if "=" in one} <= targets, words
    for words in inline(page):
        if not any(PLACEHOLDER.search(word) for word in words):
            assert words[1] in COMMANDS, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_a_page_names_is_one_that_exists(page: Path) -> None:
    named = set(re.findall(r"LINEKEEPER_([A-Z]+(?:_[A-Z]+)*)\b", page.read_text()))
    assert named - OTHERS <= {name.upper() for name in Settings.model_fields}


def is_run_here(words: list[str]) -> bool:
    """Whether a command ends by itself and needs nobody else."""
    line = " ".join(words)
    if line.startswith("python3 preflight.pyz"):
        return True
    return ours(words) is not None and not line.startswith(tuple(ELSEWHERE))


CALLING = [page for page in PAGES if any(is_run_here(words) for words in commands(page))]


@pytest.mark.parametrize("page", CALLING, ids=lambda page: page.name)
def test_what_a_page_calls_can_be_run_in_its_order(
    page: Path, command: CommandLine, tmp_path: Path
) -> None:
    calls = [words for words in commands(page) if is_run_here(words)]
    command.set(PREFECT_PORT="1")
    (tmp_path / "backups").mkdir()
    assert command("migrate").code == 0
    for words in calls:
        if words[0].startswith("python3"):
            _check_by_the_one_file(words, tmp_path)
            continue
        arguments = ours(words)
        assert arguments is not None
        if arguments[0] == "restore":
            command.set(HOME=str(tmp_path / "practice"), ENCRYPTION_KEYS=_keys(tmp_path))
        said = command(*(one.replace("$(date +%F)", "today") for one in arguments))
        assert said.code in _allowed(arguments), (words, said)
        assert "Traceback" not in said.err


def test_what_is_not_run_here_is_run_by_the_test_named() -> None:
    left = set(ELSEWHERE)
    for page in PAGES:
        for words in commands(page):
            if is_run_here(words) or words[0] in SHELL_WORDS or "=" in words[0]:
                continue
            line = " ".join(words).removeprefix(".venv/bin/")
            [start] = [start for start in ELSEWHERE if line.startswith(start)]
            left.discard(start)
            test = ROOT / ELSEWHERE[start]
            assert start.split()[-1].rpartition("/")[2] in test.read_text(), (line, test)
    assert not left


def _allowed(arguments: list[str]) -> set[int]:
    """The exit codes an example may end with; some show what is found, or refused."""
    if arguments[:2] == ["preflight", "import"]:
        return {0}
    if arguments[0] in ("doctor", "explain", "preflight"):  # nothing is known here to explain
        return {0, 1}
    if arguments[:2] == ["customer", "link"]:  # nobody is known here
        return {0, 1}
    if arguments[0] == "plan":  # one day its kickoff is in the past
        return {0, 2}
    return {0}


def _check_by_the_one_file(words: list[str], folder: Path) -> None:
    """As the customer's IT does, of a port of this machine in place of their host's."""
    arguments, file = words[1 : words.index(">")], words[-1]
    arguments[1] = "127.0.0.1:1"
    with (folder / file).open("w") as report:
        ended = subprocess.run([sys.executable, *arguments], stdout=report, cwd=folder, check=False)
    assert ended.returncode in (0, 1)


def _keys(folder: Path) -> str:
    return (folder / "home" / "encryption-keys").read_text().strip()
