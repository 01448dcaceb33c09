"""Statements to SQLite that are executed again and again, without finding out each time what is
known of them.

Most of what we ask takes SQLite some microseconds. SQLAlchemy takes ten times as long around it: it
looks the compiled statement up by all of its parts, makes a context, a cursor behind an adapter and
a result with metadata of its own. What of this is the same each time is kept here: the text, where
its values go, how they and the rows are converted. What isn't plain (see `_Form.of`) is left to
SQLAlchemy, and so is every error.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.engine.interfaces import CompiledCacheType
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler

_EXPANSIONS = 200
"""Of how many numbers of values in its lists the text of a statement is kept."""


class Rows(IteratorResult[Any]):
    """What a statement gave, all of it read."""

    def __init__(self, metadata: SimpleResultMetaData, rows: Iterator[Any], changed: int) -> None:
        super().__init__(metadata, rows)
        self.rowcount = changed
        """How many rows the statement changed."""


class Ready(NamedTuple):
    """A statement with its values, as SQLite takes it."""

    text: str
    values: Sequence[Any]
    metadata: SimpleResultMetaData
    is_many: bool = False
    """Whether it is to be executed with each of the values."""


class _Place(NamedTuple):
    name: str
    number: int | None
    """Which of a list's values; None for a value that is no list."""
    convert: Any


class _Form:
    """What is the same each time of what compiles alike."""

    def __init__(self, compiled: SQLCompiler, dialect: Dialect) -> None:
        self._text = compiled.string
        # Weakly: it holds the first statement that compiled so, by which forms are kept.
        self._compiled = ref(compiled)
        self.names = {key: name for bind, name in compiled.bind_names.items()
                      for key in (bind.key, name)}  # fmt: skip
        self.required = {bind.key for bind in compiled.bind_names if bind.required}
        self._lists = [compiled.bind_names[bind] for bind in compiled.post_compile_params]
        self._converters: Mapping[str, Any] = compiled._bind_processors
        order = compiled.positiontup or ()
        self._places = [_Place(name, None, self._converters.get(name)) for name in order]
        self._expanded: dict[tuple[int, ...], tuple[str, list[_Place]]] = {}
        columns = compiled._result_columns
        self.metadata = SimpleResultMetaData(
            [column.keyname for column in columns],
            extra=[column.objects for column in columns],
            _processors=[column.type._cached_result_processor(dialect, None) for column in columns],
        )

    @property
    def has_lists(self) -> bool:
        """Whether the number of its places depends on values."""
        return bool(self._lists)

    @property
    def gives_rows(self) -> bool:
        """Whether it gives rows, as one that changes some may, too."""
        return bool(self.metadata._keys)

    @property
    def is_stale(self) -> bool:
        """Whether it can't learn any more how lists of other lengths are written."""
        return bool(self._lists) and self._compiled() is None

    @classmethod
    def of(cls, compiled: Any, dialect: Dialect) -> "_Form | None":
        """How to execute it, or None if that is for SQLAlchemy to know."""
        known = compiled.__dict__.get("_linekeeper_form", compiled)
        if known is compiled:
            known = cls(compiled, dialect) if _is_plain(compiled) else None
            compiled._linekeeper_form = known
        form: _Form | None = known
        return form

    def ready(self, given: dict[str, Any]) -> Ready | None:
        """The statement with the values `given`, by their names in it."""
        if not self._lists:
            values = [
                given[name] if convert is None else convert(given[name])
                for name, _, convert in self._places
            ]
            return Ready(self._text, values, self.metadata)
        for name in self._lists:
            listed = given[name]
            if not isinstance(listed, list | tuple | set | frozenset):
                return None
            given[name] = listed = list(listed)
            if listed and isinstance(listed[0], tuple | list):
                return None
        lengths = tuple([len(given[name]) for name in self._lists])
        found = self._expanded.get(lengths)
        if found is None:
            compiled = self._compiled()
            if compiled is None:
                return None
            found = self._expand(compiled, given)
            if len(self._expanded) >= _EXPANSIONS:
                self._expanded.clear()
            self._expanded[lengths] = found
        text, places = found
        values = []
        for name, number, convert in places:
            value = given[name] if number is None else given[name][number]
            values.append(value if convert is None else convert(value))
        return Ready(text, values, self.metadata)

    def _expand(self, compiled: SQLCompiler, given: Mapping[str, Any]) -> tuple[str, list[_Place]]:
        state = compiled._process_parameters_for_postcompile(dict(given))
        within = {
            one: (name, number)
            for name, listed in state.parameter_expansion.items()
            for number, one in enumerate(listed)
        }
        places = []
        for one in state.positiontup or ():
            name, number = within.get(one, (one, None))
            convert = state.processors.get(one, self._converters.get(name))
            places.append(_Place(name, number, convert))
        return state.statement, places


def _is_plain(compiled: SQLCompiler) -> bool:
    """Whether all that SQLAlchemy does with it is to put in its values and to convert its rows."""
    names = [column.keyname for column in compiled._result_columns]
    return not (
        compiled.isplaintext
        or (compiled.isinsert and (names or compiled._insertmanyvalues))
        or not compiled.positional
        or compiled.literal_execute_params
        or compiled.insert_prefetch
        or compiled.update_prefetch
        or compiled.implicit_returning
        or compiled.schema_translate_map
        or compiled.escaped_bind_names
        or (names and not compiled._ordered_columns)
        or compiled._textual_ordered_columns
        or len(set(names)) < len(names)
        or any(
            bind.callable is not None or bind.type._is_tuple_type for bind in compiled.bind_names
        )
    )


class _Kept(NamedTuple):
    """A statement that was executed before."""

    form: _Form
    constants: Mapping[str, Any]
    """The values that stand in the statement itself, by their names."""

    def given(self, params: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
        """All values, by their names."""
        given = dict(self.constants)
        names = self.form.names
        for key in keys:
            if key in names:
                given[names[key]] = params[key]
        return given


class Statements:
    """Makes statements ready for one engine, or for several that are alike."""

    def __init__(self, dialect: Dialect, compiled: CompiledCacheType) -> None:
        self._dialect = dialect
        self._compiled = compiled
        self._kept: WeakKeyDictionary[Any, dict[tuple[bool, tuple[str, ...]], _Kept | None]] = (
            WeakKeyDictionary()
        )

    def ready(self, statement: Any, params: Any) -> Ready | None:
        """`statement` with `params`, or None if that is for SQLAlchemy to execute."""
        if not isinstance(statement, Select | Insert | Update | Delete):
            return None
        try:
            if isinstance(params, list):
                return self._with_each(statement, params)
            if params is None or isinstance(params, dict):
                return self._with(statement, params or {})
        except Exception:  # SQLAlchemy says what is wrong, in its own errors
            return None
        return None

    def _with(self, statement: Any, params: Mapping[str, Any]) -> Ready | None:
        kept = self._known(statement, tuple(params), is_many=False)
        return None if kept is None else kept.form.ready(kept.given(params, tuple(params)))

    def _with_each(self, statement: Any, params: Sequence[Mapping[str, Any]]) -> Ready | None:
        if len(params) == 1:
            return self._with(statement, params[0])
        keys = tuple(params[0])
        kept = self._known(statement, keys, is_many=True)
        if kept is None or kept.form.has_lists or kept.form.gives_rows:
            return None
        ready = [kept.form.ready(kept.given(each, keys)) for each in params]
        if ready[0] is None:
            return None
        return ready[0]._replace(values=[each.values for each in ready if each], is_many=True)

    def _known(self, statement: Any, keys: tuple[str, ...], *, is_many: bool) -> _Kept | None:
        of_statement = self._kept.get(statement)
        if of_statement is None:
            of_statement = self._kept[statement] = {}
        known = of_statement.get((is_many, keys))
        if known is not None and not known.form.is_stale:
            return known
        if known is None and (is_many, keys) in of_statement:
            return None
        kept = of_statement[is_many, keys] = self._keep(statement, keys, is_many=is_many)
        return kept

    def _keep(self, statement: Any, keys: Sequence[str], *, is_many: bool) -> _Kept | None:
        if statement._execution_options.get("schema_translate_map"):
            return None
        compiled, extracted, collected, _ = statement._compile_w_cache(
            dialect=self._dialect, compiled_cache=self._compiled, column_keys=sorted(keys),
            for_executemany=is_many, schema_translate_map=None,
        )  # fmt: skip
        form = None if collected else _Form.of(compiled, self._dialect)
        if form is None or not form.required <= set(keys):
            return None
        constants = compiled.construct_params(
            extracted_parameters=extracted, escape_names=False, _check=False
        )
        return _Kept(form, constants)


class _Context:
    """What SQLAlchemy's handling of errors wants to know of what was executed."""

    executemany = False

    def handle_dbapi_exception(self, error: BaseException) -> None:
        """There is nothing to add."""


_CONTEXT: Any = _Context()


def refuse(connection: Connection, ready: Ready, error: BaseException) -> None:
    """Raise `error` of a statement as SQLAlchemy does, with all that it does then."""
    try:
        if isinstance(error, Exception) and not isinstance(error, sqlite3.Error):
            adapted: Any = connection.connection.dbapi_connection
            adapted._handle_exception(error)
        raise error
    except BaseException as known:
        connection._handle_dbapi_exception(known, ready.text, ready.values, None, _CONTEXT)
