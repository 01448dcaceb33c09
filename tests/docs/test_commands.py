"""Every command and setting that the docs name exists, with the options shown."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from linekeeper.cli import COMMANDS, app
from linekeeper.cli import _load as load
from linekeeper.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = {"sh", "bash", "shell"}
OTHERS = {"URL", "KEY", "TEMPLATES", "SECRETS_DIR", "IMAGE"}
"""What docs/product.md's samples call the address and the key they are given; a setting that is
read where it is needed; where files with settings are; and what compose.yaml runs."""
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


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command, or those below it, by the words that call them."""
    below: Mapping[str, Any] = getattr(command, "commands", {})
    for sub, each in below.items():
        yield from leaves(f"{name} {sub}", each)
    if not below:
        yield name, command


def test_every_command_is_on_a_page_and_its_help_says_what_each_option_does() -> None:
    written = "\n".join(page.read_text() for page in PAGES)
    for first in COMMANDS:
        for name, command in leaves(first, load(first)):
            assert f"linekeeper {name}" in written, f"no page names {name}"
            assert command.help, f"{name} --help doesn't say what it does"
            for parameter in command.params:
                assert parameter.help, f"{name} --help doesn't say what {parameter.name} is"
