"""Planting a known defect into production code, for the life of this process.

A defect is a replacement of text in one or more source files. The functions that it touches get
the code of the changed text, so that whoever holds them runs it. A name of a module that it gives
another value is set in every module that has imported it; what was built from the old value before
(a default of a parameter, a constant of another module) keeps it. Where the text is not there just
once, or lies in neither, planting raises: a defect that can't be planted is no defect that was
found.
"""

import ast
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

ROOT = Path(__file__).parents[2]


class NotPlanted(Exception):
    """The place that the defect changes is not there any more."""


@dataclass(frozen=True)
class Edit:
    """`old` is replaced by `new` in `file`, a path from the root of the project."""

    file: str
    old: str
    new: str

    def changed(self, text: str | None = None) -> tuple[str, int]:
        """The whole changed text, and the line the change begins at. Raises `NotPlanted`.

        `text` is what it changes, where another edit has changed the file already.
        """
        text = (ROOT / self.file).read_text() if text is None else text
        if text.count(self.old) != 1:
            raise NotPlanted(f"{self.file} has {text.count(self.old)} times: {self.old!r}")
        return text.replace(self.old, self.new), text[: text.index(self.old)].count("\n") + 1


@dataclass(frozen=True)
class Mutant:
    """One known defect, and what a universe needs for it to matter."""

    name: str
    what: str
    edits: tuple[Edit, ...]
    kinds: frozenset[str] = frozenset()
    """The kinds of trouble that are on; none: those that each seed draws."""
    personality: dict[str, Any] = field(default_factory=dict)
    sick: str = ""
    hours: float = 0.75
    pace: float = 1.0
    lull: float = 0.0
    seed: int = 1
    """The universe that is known to find it, which is tried first."""

    def plant(self) -> None:
        """Change the running code. Raises `NotPlanted`."""
        texts: dict[str, str] = {}
        for edit in self.edits:  # all those of a file together: each swaps the whole module
            texts[edit.file], line = edit.changed(texts.get(edit.file))
            codes = _compiled(edit.file, texts[edit.file])
            if not any(_covers(code, line) for code in codes.values()) and not any(
                _spans(named, line) for named in _assigned(texts[edit.file])
            ):
                raise NotPlanted(f"{edit.file}:{line} lies in no function, and names no value")
        for file, text in texts.items():
            module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
            _swap(module, _compiled(file, text))
            before = {ast.unparse(named) for named in _assigned((ROOT / file).read_text())}
            for named in _assigned(text):
                if ast.unparse(named) not in before:
                    _assign(module, named)


def mutant(
    name: str, what: str, *edits: tuple[str, str, str], kinds: str = "none", **needs: Any
) -> Mutant:
    """A defect by files of `linekeeper/` or `tasks/`, each with what stands there and what will."""
    planted = tuple(
        Edit(file if file.startswith("tasks/") else f"linekeeper/{file}", old, new)
        for file, old, new in edits
    )
    return Mutant(name, what, planted, frozenset(kinds.split()), **needs)


def _compiled(file: str, text: str) -> dict[str, CodeType]:
    return dict(_codes(compile(text, str(ROOT / file), "exec")))


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            is_class = not inner.co_flags & 0x2  # a class body has no fast locals
            if is_class:
                yield from _codes(inner)
            else:
                yield inner.co_qualname, inner


def _covers(code: CodeType, line: int) -> bool:
    lines = [at for _, _, at in code.co_lines() if at is not None]
    return bool(lines) and code.co_firstlineno <= line <= max(lines) + 1


Named = ast.Assign | ast.AnnAssign


def _assigned(text: str) -> Iterator[Named]:
    """The statements that give a module's names their values."""
    for statement in ast.parse(text).body:
        if isinstance(statement, Named) and statement.value is not None:
            yield statement


def _spans(statement: Named, line: int) -> bool:
    return statement.lineno <= line <= (statement.end_lineno or statement.lineno)


def _assign(module: Any, statement: Named) -> None:
    """Do it in `module`, and wherever else what it gives another value is known by that name."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    names = [node.id for each in targets for node in ast.walk(each) if isinstance(node, ast.Name)]
    before = {name: vars(module)[name] for name in names}
    exec(compile(ast.Module([statement], []), str(module.__file__), "exec"), vars(module))
    for other in list(sys.modules.values()):
        for name in names:
            if not name.startswith("_") and vars(other).get(name) is before[name]:
                setattr(other, name, vars(module)[name])


def _swap(module: Any, codes: dict[str, CodeType]) -> None:
    for function in _functions(vars(module), module.__name__):
        code = codes.get(function.__qualname__)
        if code is not None and code.co_freevars == function.__code__.co_freevars:
            function.__code__ = code


def _functions(names: dict[str, Any], module: str) -> Iterator[FunctionType]:
    for value in list(names.values()):
        if isinstance(value, type) and value.__module__ == module:
            yield from _functions(dict(vars(value)), module)
            continue
        for found in (value, getattr(value, "__func__", None), getattr(value, "fget", None)):
            inner = found
            while inner is not None:
                if isinstance(inner, FunctionType) and inner.__module__ == module:
                    yield inner
                inner = getattr(inner, "__wrapped__", None)
