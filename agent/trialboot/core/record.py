"""Frozen dataclasses to plain JSON values and back, strictly: the one codec of all files on disk.

A dataclass becomes an object with its fields; where a field may hold one of several dataclasses
the object carries `"is": "ClassName"`. Reading refuses what it does not know: an unknown key, a
missing one without default, a wrong type. It raises `ValueError` with the path of the culprit.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from operator import length_hint
from typing import Any, Final, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_Reader: TypeAlias = Callable[[Any], Any]
"""Turns what JSON gave into a value. Made once a type: a record may hold thousands of values."""
_IS: Final = "is"
_PLAIN: Final = (str, int, float, bool, type(None))


class _MisfitError(ValueError):
    """A value that does not fit, and its place below the record, which grows on the way up."""

    def __init__(self, why: str, place: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.place = place

    def below(self, step: str) -> "_MisfitError":
        return _MisfitError(self.why, f"{step}{self.place}")


def plain(value: object) -> Any:
    """Turn a value into what JSON has."""
    if type(value) in _PLAIN:  # most of thousands
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | frozenset):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return {_IS: type(value).__name__, **inner}
    return value


def parse(kind: type[_T], value: object, where: str = "record") -> _T:
    """Turn what JSON gave into a `kind`, or raise `ValueError` that names the place."""
    hashable: Any = kind  # mypy does not take every type for one
    try:
        made: _T = _reader_of(hashable)(value)
    except _MisfitError as error:
        raise ValueError(f"{where}{error.place}: {error.why}") from error
    return made


@cache
def _reader_of(kind: Any) -> _Reader:
    kind = _bare(kind)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union_reader(get_args(kind))
    if origin is tuple:
        return _tuple_reader(get_args(kind))
    if is_dataclass(kind):
        return _dataclass_reader(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_reader(kind)
    return _plain_reader(kind)


def _bare(kind: Any) -> Any:
    return getattr(kind, "__supertype__", kind)  # a NewType is checked as what it is made of


def _enum_reader(kind: type[Enum]) -> _Reader:
    def read(value: Any) -> Enum:
        try:
            return kind(value)
        except ValueError as error:
            raise _MisfitError(str(error)) from error

    return read


def _plain_reader(kind: Any) -> _Reader:
    def read(value: Any) -> Any:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise _expected(kind.__name__, value)
        return value

    return read


def _union_reader(kinds: tuple[Any, ...]) -> _Reader:
    bare: list[Any] = [_bare(kind) for kind in kinds]
    exact = frozenset(kind for kind in bare if kind in _PLAIN)
    classes: list[Any] = [kind for kind in bare if is_dataclass(kind)]
    named = {kind.__name__: _reader_of(kind) for kind in classes}
    listed = next((_reader_of(kind) for kind in bare if get_origin(kind) is tuple), None)

    def read(value: Any) -> Any:
        if type(value) in exact:
            return value
        if isinstance(value, Mapping):
            name = value.get(_IS)
            reader = named.get(name) if isinstance(name, str) else None
        else:
            reader = listed if isinstance(value, list) else None
        if reader is None:
            raise _MisfitError(f"fits none of {', '.join(map(str, kinds))}")
        return reader(value)

    return read


def _tuple_reader(kinds: tuple[Any, ...]) -> _Reader:
    if len(kinds) == 2 and kinds[1] is Ellipsis:  # noqa: PLR2004  tuple[X, ...]
        return _series_reader(kinds[0])
    return _row_reader(kinds)


def _series_reader(kind: Any) -> _Reader:
    inner, bare = _reader_of(kind), _bare(kind)
    exact = {bare} if bare in _PLAIN else set()

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _expected("list", value)
        if exact.issuperset(map(type, value)):
            return tuple(value)
        rest = iter(value)
        try:
            return tuple(map(inner, rest))
        except _MisfitError as error:
            raise error.below(_index(value, rest)) from error

    return read


def _row_reader(kinds: tuple[Any, ...]) -> _Reader:
    inner, exact = [_reader_of(kind) for kind in kinds], [_bare(kind) for kind in kinds]

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _expected("list", value)
        if list(map(type, value)) == exact:
            return tuple(value)
        if len(value) != len(inner):
            raise _MisfitError(f"{len(inner)} items expected, found {len(value)}")
        rest = iter(value)
        try:
            return tuple(reader(item) for reader, item in zip(inner, rest, strict=True))
        except _MisfitError as error:
            raise error.below(_index(value, rest)) from error

    return read


def _index(whole: list[Any], rest: Any) -> str:
    """Name the item that an iterator over a list gave last."""
    return f"[{len(whole) - length_hint(rest) - 1}]"


def _dataclass_reader(kind: Any) -> _Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _expected("object", value)
        if value.get(_IS, kind.__name__) != kind.__name__:
            raise _MisfitError(f"{kind.__name__} expected, found {value[_IS]}")
        readers = _field_readers(kind)
        unknown = value.keys() - readers.keys() - {_IS}
        if unknown:
            raise _MisfitError(f"unknown key: {', '.join(sorted(unknown))}")
        missing = [f.name for f in fields(kind) if f.name not in value and _is_required(f)]
        if missing:
            raise _MisfitError(f"missing key: {', '.join(missing)}")
        return kind(**{name: _field(name, readers, value) for name in readers if name in value})

    return read


@cache
def _field_readers(kind: Any) -> Mapping[str, _Reader]:
    hints = get_type_hints(kind)
    return {f.name: _reader_of(hints[f.name]) for f in fields(kind)}


def _field(name: str, readers: Mapping[str, _Reader], value: Mapping[str, Any]) -> Any:
    try:
        return readers[name](value[name])
    except _MisfitError as error:
        raise error.below(f".{name}") from error


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _expected(what: str, found: object) -> _MisfitError:
    return _MisfitError(f"{what} expected, found {type(found).__name__}")
