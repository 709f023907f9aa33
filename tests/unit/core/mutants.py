"""Ways in which the law of comparison could be wrong: each function changed in one place.

A mutant is a function whose code object is exchanged while it is tried, so that every module that
has imported it is wrong in the same way at once; a constant is exchanged by name.
"""

import ast
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

_OPPOSITES: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_TWINS = {"any": "all", "all": "any", "min": "max", "max": "min"}


@dataclass(frozen=True)
class Mutant:
    """One wrong law, and how to live under it."""

    name: str
    place: str
    """The function or constant; mutants of one place are often found out by the same story."""
    enter: Callable[[], Callable[[], None]]
    """Makes it so; what it gives makes it right again."""

    @contextmanager
    def alive(self) -> Iterator[None]:
        leave = self.enter()
        try:
            yield
        finally:
            leave()


def mutants_of(module: ModuleType) -> Iterator[Mutant]:
    """Give every mutant of one module, in the order of its text."""
    short = module.__name__.rpartition(".")[2]
    seen: Counter[str] = Counter()
    for made in (*_functions(module, short), *_constants(module, short)):
        seen[made.name] += 1
        again = f" (the {seen[made.name]}th)" if seen[made.name] > 1 else ""
        yield Mutant(made.name + again, made.place, made.enter)


# --- functions --------------------------------------------------------------------------------


def _functions(module: ModuleType, short: str) -> Iterator[Mutant]:
    tree = ast.parse(inspect.getsource(module))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield from _of_function(vars(module)[node.name], node, f"{short}.{node.name}")
        elif isinstance(node, ast.ClassDef):
            owner = vars(module)[node.name]
            for method in (x for x in node.body if isinstance(x, ast.FunctionDef)):
                found = vars(owner)[method.name]
                function = found.fget if isinstance(found, property) else found
                yield from _of_function(function, method, f"{short}.{node.name}.{method.name}")


def _of_function(function: Any, node: ast.FunctionDef, place: str) -> Iterator[Mutant]:
    function = inspect.unwrap(function)
    assert isinstance(function, FunctionType), place
    for parent, field, number, old in list(_slots(node)):
        for new in _alternatives(parent, field, old):
            _put(parent, field, number, new)
            code = _compiled(node, function)
            _put(parent, field, number, old)
            name = f"{place}: {_words(old)} -> {_words(new)}"
            yield Mutant(name, place, lambda code=code: _exchanged(function, code))  # type: ignore[misc]


def _exchanged(function: FunctionType, code: CodeType) -> Callable[[], None]:
    right = function.__code__
    function.__code__ = code
    return lambda: setattr(function, "__code__", right)


def _compiled(node: ast.FunctionDef, function: FunctionType) -> CodeType:
    decorators, node.decorator_list = node.decorator_list, []
    module = ast.fix_missing_locations(ast.Module(body=[node], type_ignores=[]))
    outer = compile(module, "<mutant>", "exec", dont_inherit=True)
    node.decorator_list = decorators
    (code,) = (c for c in outer.co_consts if isinstance(c, CodeType) and c.co_name == node.name)
    assert code.co_freevars == function.__code__.co_freevars
    return code


def _slots(node: ast.FunctionDef) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Give every place below a function's body that holds a part of it."""
    for statement in node.body:
        for parent in (node, *ast.walk(statement)):
            for field, value in ast.iter_fields(parent):
                if parent is node and field != "body":
                    continue
                if field in {"annotation", "returns", "args"} and isinstance(value, ast.AST):
                    continue
                if isinstance(value, ast.AST):
                    yield parent, field, None, value
                elif isinstance(value, list):
                    parts = [(n, x) for n, x in enumerate(value) if isinstance(x, ast.AST)]
                    wanted = (
                        parts if parent is not node else [p for p in parts if p[1] is statement]
                    )
                    yield from ((parent, field, n, x) for n, x in wanted)


def _put(parent: ast.AST, field: str, number: int | None, part: ast.AST) -> None:
    if number is None:
        setattr(parent, field, part)
    else:
        getattr(parent, field)[number] = part


def _words(node: ast.AST) -> str:
    return "; ".join(line.strip() for line in ast.unparse(node).splitlines())


def _alternatives(parent: ast.AST, field: str, old: ast.AST) -> Iterator[ast.AST]:
    if isinstance(parent, ast.comprehension) and field == "ifs":
        yield ast.Constant(value=True)
    if isinstance(parent, ast.If) and field == "test":
        yield ast.Constant(value=True)
        yield ast.Constant(value=False)
    match old:
        case ast.stmt():
            yield from _other_statements(old)
        case ast.Constant():
            yield from _other_constants(parent, old)
        case ast.expr():
            yield from _other_expressions(old)
        case _:
            pass


def _other_statements(old: ast.stmt) -> Iterator[ast.AST]:
    match old:
        case ast.AugAssign() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Expr(value=value) if not isinstance(value, ast.Constant):
            yield ast.Pass()
        case ast.Return(value=value) if value is not None:
            wrong: list[ast.expr] = [ast.Constant(value=True), ast.Tuple(elts=[], ctx=ast.Load())]
            yield from (ast.Return(value=w) for w in wrong if not _is_bare(value))


def _is_bare(value: ast.expr) -> bool:
    """Tell a constant, or a list with nothing in it: what else it could be is tried elsewhere."""
    empty = isinstance(value, ast.List | ast.Tuple) and not value.elts
    return empty or isinstance(value, ast.Constant)


def _other_constants(parent: ast.AST, old: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(parent, ast.Expr):
        return  # a docstring
    match old.value:
        case bool():
            yield ast.Constant(value=not old.value)
        case int() | float():
            yield ast.Constant(value=old.value + 1)
            yield ast.Constant(value=old.value - 1)
        case "":
            yield ast.Constant(value="mutant")
        case str():
            yield ast.Constant(value="")
        case _:
            pass


def _other_expressions(old: ast.expr) -> Iterator[ast.AST]:
    yield from _other_conditions(old)
    match old:
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.BinOp(left=left, op=op, right=right) if not isinstance(op, ast.Mod):
            yield left
            yield right
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in _TWINS:
            twin = ast.Name(id=_TWINS[name], ctx=ast.Load())
            yield ast.Call(func=twin, args=args, keywords=keywords)
        case ast.List(elts=elts, ctx=ast.Load()) | ast.Tuple(elts=elts, ctx=ast.Load()):
            for number, element in enumerate(elts):
                if isinstance(element, ast.Starred):
                    rest = [e for n, e in enumerate(elts) if n != number]
                    yield type(old)(elts=rest, ctx=ast.Load())
        case _:
            pass


def _other_conditions(old: ast.expr) -> Iterator[ast.AST]:
    match old:
        case ast.Compare(left=left, ops=[op], comparators=comparators):
            for other in _OPPOSITES[type(op)]:
                yield ast.Compare(left=left, ops=[other()], comparators=comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(op=ast.Or() if isinstance(op, ast.And) else ast.And(), values=values)
            for number in range(len(values)):
                rest = [v for n, v in enumerate(values) if n != number]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op=op, values=rest)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case _:
            pass


# --- constants --------------------------------------------------------------------------------


def _constants(module: ModuleType, short: str) -> Iterator[Mutant]:
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            value = vars(module)[name]
            for words, wrong in _other_values(value):
                yield Mutant(
                    f"{short}.{name}: {words}",
                    f"{short}.{name}",
                    lambda name=name, value=value, wrong=wrong: _named(name, value, wrong),  # type: ignore[misc]
                )


def _other_values(value: object) -> Iterator[tuple[str, object]]:
    match value:
        case int() | float():
            yield f"{value} -> {value + 1}", value + 1
            yield f"{value} -> {value - 1}", value - 1
        case str():
            yield f"{value!r} -> ''", ""
        case tuple() | frozenset():
            for gone in sorted(value):
                yield f"without {gone!r}", type(value)(v for v in value if v != gone)
        case dict():
            for gone in value:
                words = gone.__name__ if isinstance(gone, type) else repr(gone)
                yield f"without {words}", {k: v for k, v in value.items() if k != gone}
        case _:
            pass


def _named(name: str, value: object, wrong: object) -> Callable[[], None]:
    """Exchange a constant wherever it was imported."""
    homes = [
        module
        for full, module in sys.modules.items()
        if full.startswith("trialboot.core") and vars(module).get(name) is value
    ]
    for home in homes:
        setattr(home, name, wrong)

    def back() -> None:
        for home in homes:
            setattr(home, name, value)

    return back
