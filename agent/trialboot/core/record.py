"""Frozen dataclasses to plain JSON values and back, strictly: the one codec of all files on disk.

A dataclass becomes an object with its fields; where a field may hold one of several dataclasses
the object carries `"is": "ClassName"`. Reading refuses what it does not know: an unknown key, a
missing one without default, a wrong type. It raises `ValueError` with the path of the culprit.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_IS: Final = "is"
_PLAIN: Final = (str, int, float, bool, type(None))


def plain(value: object) -> Any:
    """Turn a value into what JSON has."""
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
    made: _T = _parse(kind, value, where)
    return made


def _parse(kind: Any, value: Any, where: str) -> Any:
    kind = getattr(kind, "__supertype__", kind)  # a NewType is checked as what it is made of
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _parse_union(get_args(kind), value, where)
    if origin is tuple:
        return _parse_tuple(get_args(kind), value, where)
    if is_dataclass(kind):
        return _parse_dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _parse_enum(kind, value, where)
    return _parse_plain(kind, value, where)


def _parse_enum(kind: type[Enum], value: Any, where: str) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _parse_plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where}: {kind.__name__} expected, found {type(value).__name__}")
    return value


def _parse_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    for kind in kinds:
        bare = getattr(kind, "__supertype__", kind)
        if value is None and bare is type(None):
            return None
        if isinstance(value, Mapping) and getattr(bare, "__name__", "") == value.get(_IS):
            return _parse(bare, value, where)
        if bare in _PLAIN and type(value) is bare:
            return value
        if get_origin(bare) is tuple and isinstance(value, list):
            return _parse(bare, value, where)
    raise ValueError(f"{where}: fits none of {', '.join(map(str, kinds))}")


def _parse_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: list expected, found {type(value).__name__}")  # noqa: TRY004  one error kind for all files
    if len(kinds) == 2 and kinds[1] is Ellipsis:  # noqa: PLR2004  tuple[X, ...]
        return tuple(_parse(kinds[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(kinds) != len(value):
        raise ValueError(f"{where}: {len(kinds)} items expected, found {len(value)}")
    return tuple(
        _parse(kind, item, f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _parse_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: object expected, found {type(value).__name__}")  # noqa: TRY004  one error kind for all files
    if value.get(_IS, kind.__name__) != kind.__name__:
        raise ValueError(f"{where}: {kind.__name__} expected, found {value[_IS]}")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(set(value) - set(known) - {_IS})
    if unknown:
        raise ValueError(f"{where}: unknown key: {', '.join(unknown)}")
    missing = [n for n, f in known.items() if n not in value and _is_required(f)]
    if missing:
        raise ValueError(f"{where}: missing key: {', '.join(missing)}")
    return kind(**{n: _parse(hints[n], value[n], f"{where}.{n}") for n in known if n in value})


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
